import { readdir, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../../test/e2e/support/wait.ts";
import type { BenchContext, Part } from "../part.ts";
import { type Row, Series } from "../stats.ts";
import { MACHINE, newIdentity, timeMs } from "../subjects/machine.ts";
import { BenchRuntime, directSprite } from "../subjects/runtime.ts";

const BOOTS = 3;

/** Save, wake, boot and memory: what lies below the API. */
export const lifecyclePart: Part = {
  name: "lifecycle",
  title: "sleep, wake, boot, memory",
  boundMinutes: { quick: 5, full: 10 },
  async run(context) {
    const n = context.quick ? 2 : 10;
    const bench = await BenchRuntime.start(context);
    const [save, wake, exec, memory] = [new Series(), new Series(), new Series(), new Series()];
    const identity = newIdentity();
    const firstExec = async (of = identity) => {
      await directSprite(await bench.runtime.endpoint(of, MACHINE)).execFile("true");
    };
    await bench.runtime.create(identity, MACHINE);
    for (let round = 0; round < n; round++) {
      context.progress(`save and wake, ${round + 1} of ${n}`);
      await firstExec();
      exec.add(await timeMs(() => firstExec()));
      // What several sprites share, one that runs alone seems to have for itself.
      const neighbour = newIdentity();
      await bench.runtime.create(neighbour, MACHINE);
      await firstExec(neighbour);
      await sleep(3000);
      memory.add(await uniqueMemoryMb(identity.id));
      await bench.runtime.destroy(neighbour.id);
      save.add(await timeMs(() => bench.runtime.stopAll()));
      await bench.reopen();
      await bench.runtime.recover([{ identity, machine: MACHINE }]);
      wake.add(await timeMs(() => firstExec()));
    }
    const beside = { what: "that exec when it runs", value: exec.p50 };
    return [
      { what: "save to warm, p50", value: save.p50, unit: "ms", n, budget: { kind: "value", limit: 100 } },
      { what: "warm wake → first exec output, p50", value: wake.p50, unit: "ms", n, beside, budget: { kind: "value", limit: 800 } },
      { what: "unique memory of an idle sprite, p50", value: memory.p50, unit: "MB", n, budget: { kind: "value", limit: 110 } },
      ...(await benchColdBoot(context, bench)),
    ];
  },
};

/** From no memory at all: kernel, pilot, container, first exec. */
async function benchColdBoot(context: BenchContext, bench: BenchRuntime): Promise<Row[]> {
  const boot = new Series();
  for (let round = 0; round < BOOTS; round++) {
    context.progress(`cold boot, ${round + 1} of ${BOOTS}`);
    const identity = newIdentity();
    await bench.runtime.create(identity, MACHINE);
    const { pid } = await vmProcess(identity.id);
    process.kill(pid, "SIGKILL");
    await until("the end of the VM is noticed", () => bench.runtime.status(identity.id) !== "running");
    boot.add(await timeMs(async () => directSprite(await bench.runtime.endpoint(identity, MACHINE)).execFile("true")));
    await bench.runtime.destroy(identity.id);
  }
  return [{ what: "cold boot → first exec output, p50", value: boot.p50, unit: "ms", n: BOOTS }];
}

/** Private pages of the VMM and its network process, proc_pid_smaps(5). */
async function uniqueMemoryMb(id: string): Promise<number> {
  const { pid, networkPid } = await vmProcess(id);
  let kb = 0;
  for (const one of [pid, networkPid]) {
    const rollup = await readFile(`/proc/${one}/smaps_rollup`, "utf8");
    for (const [, value] of rollup.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+)/gm)) kb += Number(value);
  }
  return kb / 1024;
}

/** The VMM's command line names its runtime folder, and that the sprite. */
async function vmProcess(id: string): Promise<{ pid: number; networkPid: number }> {
  const folder = `/${id.replace(/^sprite-/, "").slice(0, 18)}/`;
  const found = { pid: 0, networkPid: 0 };
  for (const name of (await readdir("/proc")).filter((one) => /^\d+$/.test(one))) {
    const command = (await readFile(`/proc/${name}/cmdline`, "latin1").catch(() => "")).split("\0");
    if (!command.some((argument) => argument.includes(folder))) continue;
    if (command[0]?.includes("qemu")) found.pid = Number(name);
    if (command[0]?.includes("passt")) found.networkPid = Number(name);
  }
  if (found.pid === 0) throw new Error(`no VMM of ${id} runs`);
  return found;
}
