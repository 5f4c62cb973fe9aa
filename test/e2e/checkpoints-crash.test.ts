import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Sprite } from "@fly/sprites";
import { checkpoint, completed } from "./support/checkpoints.ts";
import { outputOf } from "./support/exec.ts";
import { useDaemon } from "./support/suite.ts";
import { until } from "./support/wait.ts";

/** Each round is a boot, which takes long where the processor is emulated and busy. */
const LIMIT = { timeout: 480_000 };
/** When the VM is killed, milliseconds after a checkpoint or a restore was asked for. */
const DELAYS_MS = [100, 400, 1_000];

const suite = useDaemon({ sprites: ["box"] });
const box = (): Sprite => suite.sprite("box");

/** As a loss of power is for the guest: QEMU gets no chance to do anything. The host keeps what it had written. */
async function killVm(): Promise<void> {
  const [vmm] = suite.daemon.vmProcesses("qemu");
  assert.ok(vmm, "the VM runs");
  process.kill(vmm.pid, "SIGKILL");
  await until("the daemon has noticed", async () => {
    const response = await suite.daemon.fetch("/v1/sprites/box");
    return ((await response.json()) as { status: string }).status !== "running";
  });
}

test(
  "whenever the VM dies, the sprite comes up on a state that was there, with every checkpoint that was acknowledged",
  LIMIT,
  async () => {
    const acknowledged = new Map<string, string>();
    const keep = async (content: string) => {
      await outputOf(box(), `echo ${content} > ~/state && head -c 3000000 /dev/urandom > ~/noise && sync`);
      return content;
    };
    await keep("base");
    const base = await checkpoint(box());
    acknowledged.set(base, "base");
    for (const [round, delayMs] of DELAYS_MS.entries()) {
      const content = await keep(`round-${round}`);
      const isRestore = round % 2 === 1;
      const work = isRestore ? completed(box().restoreCheckpoint(base)) : checkpoint(box());
      const ended = Promise.resolve(work).then(
        (result) => result,
        () => undefined,
      );
      await sleep(delayMs);
      await killVm();
      const result = await ended;
      if (typeof result === "string") acknowledged.set(result, content);
      const found = await outputOf(box(), "cat ~/state");
      const possible = !isRestore || result === undefined ? [content, ...(isRestore ? ["base"] : [])] : ["base"];
      assert.ok(possible.includes(found), `round ${round}: ${found}, not one of ${possible}`);
      const listed = (await box().listCheckpoints()).map(({ id }) => id);
      for (const id of acknowledged.keys()) assert.ok(listed.includes(id), `round ${round}: ${id} is gone`);
    }
    const newest = [...acknowledged].slice(-5);
    await until("they are mounted inside", async () => {
      const shown = (await outputOf(box(), "ls /.sprite/checkpoints")).split("\n");
      return newest.every(([id]) => shown.includes(id));
    });
    for (const [id, content] of newest)
      assert.equal(await outputOf(box(), `cat /.sprite/checkpoints/${id}/home/sprite/state`), content, id);
    await completed(box().restoreCheckpoint(base));
    assert.equal(await outputOf(box(), "cat ~/state"), "base");
  },
);
