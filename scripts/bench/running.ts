import { readdir, readFile } from "node:fs/promises";
import { type Row, Series } from "./stats.ts";
import { BenchDaemon, BenchRuntime, directSprite, MACHINE, newIdentity, timeMs } from "./subjects.ts";

const STREAM_BYTES = 64 * 1024 * 1024;
const STREAM_ROUNDS = 5;
const BOUNCES = 10;

/** What one running sprite does: exec beside crun, output beside a plain connection, bounce. */
export async function benchRunning(n: number): Promise<Row[]> {
  const daemon = await BenchDaemon.start();
  try {
    const sprite = await daemon.client.createSprite("running");
    const [exec, crun] = [new Series(), new Series()];
    for (let round = -3; round < n; round++) {
      const execMs = await timeMs(() => sprite.execFile("true"));
      const crunMs = await measureCrun(daemon, "running");
      if (round < 0) continue;
      exec.add(execMs);
      crun.add(crunMs);
    }
    const streams = await benchStreams(daemon, sprite);
    const bounce = await benchBounce(daemon);
    const resident = await daemon.residentMb();
    return [
      {
        what: "exec true over the API, p50",
        value: exec.p50,
        unit: "ms",
        n,
        beside: { what: "crun exec true in the VM", value: crun.p50 },
        budget: { kind: "ratio", limit: 1 },
      },
      {
        what: "exec true over the API, p99",
        value: exec.percentile(99),
        unit: "ms",
        n,
        beside: { what: "crun exec true in the VM", value: crun.percentile(99) },
      },
      ...streams,
      ...bounce,
      { what: "hobd, resident, after this run", value: resident, unit: "MB", n: 1 },
    ];
  } finally {
    await daemon.stop();
  }
}

/** The pilot runs `crun exec … true` and says how long it took; the clock is the guest's. */
async function measureCrun(daemon: BenchDaemon, name: string): Promise<number> {
  const { ms } = (await daemon.request("POST", `/v1/sprites/${name}/diagnostics/crun-exec`)) as { ms: number };
  return ms;
}

async function benchStreams(daemon: BenchDaemon, sprite: ReturnType<BenchDaemon["sprite"]>): Promise<Row[]> {
  const [exec, plain] = [new Series(), new Series()];
  for (let round = 0; round < STREAM_ROUNDS; round++) {
    let received = 0;
    const execMs = await timeMs(async () => {
      const command = sprite.spawn("head", ["-c", String(STREAM_BYTES), "/dev/zero"]);
      command.stdout.on("data", (chunk: Buffer) => {
        received += chunk.length;
      });
      await command.wait();
    });
    if (received !== STREAM_BYTES) throw new Error(`exec lost output: ${received} of ${STREAM_BYTES} bytes`);
    exec.add(STREAM_BYTES / 1e6 / (execMs / 1000));
    const plainMs = await timeMs(() => daemon.drain(`/v1/sprites/running/diagnostics/stream?bytes=${STREAM_BYTES}`));
    plain.add(STREAM_BYTES / 1e6 / (plainMs / 1000));
  }
  const beside = { what: "plain HTTP body from the pilot", value: plain.p50 };
  return [{ what: "exec stdout, 64 MiB, p50", value: exec.p50, unit: "MB/s", n: STREAM_ROUNDS, beside }];
}

async function benchBounce(daemon: BenchDaemon): Promise<Row[]> {
  const [answered, container] = [new Series(), new Series()];
  for (let round = -1; round < BOUNCES; round++) {
    const start = performance.now();
    const { totalMs } = (await daemon.request("POST", "/v1/sprites/running/bounce")) as { totalMs: number };
    await daemon.sprite("running").execFile("true");
    if (round < 0) continue;
    answered.add(performance.now() - start);
    container.add(totalMs);
  }
  return [
    { what: "bounce, until an exec answers, p50", value: answered.p50, unit: "ms", n: BOUNCES, budget: { kind: "value", limit: 800 } },
    { what: "bounce, container down and up, p50", value: container.p50, unit: "ms", n: BOUNCES },
  ];
}

/** Save, wake, boot and memory: what lies below the API. */
export async function benchLifecycle(n: number): Promise<Row[]> {
  const bench = await BenchRuntime.start();
  const [save, wake, memory] = [new Series(), new Series(), new Series()];
  const identity = newIdentity();
  const firstExec = async () => {
    await directSprite(await bench.runtime.endpoint(identity, MACHINE)).execFile("true");
  };
  try {
    await bench.runtime.create(identity, MACHINE);
    for (let round = 0; round < n; round++) {
      await firstExec();
      await new Promise((resolve) => setTimeout(resolve, 3000));
      memory.add(await uniqueMemoryMb(identity.id));
      save.add(await timeMs(() => bench.runtime.stopAll()));
      await bench.reopen();
      await bench.runtime.recover([{ identity, machine: MACHINE }]);
      wake.add(await timeMs(firstExec));
    }
    const boot = await benchColdBoot(bench);
    return [
      { what: "save to warm, p50", value: save.p50, unit: "ms", n, budget: { kind: "value", limit: 100 } },
      { what: "warm wake → first exec output, p50", value: wake.p50, unit: "ms", n, budget: { kind: "value", limit: 800 } },
      { what: "unique memory of an idle sprite, p50", value: memory.p50, unit: "MB", n, budget: { kind: "value", limit: 110 } },
      ...boot,
    ];
  } finally {
    await bench.stop();
  }
}

const BOOTS = 3;

/** From no memory at all: kernel, pilot, container, first exec. */
async function benchColdBoot(bench: BenchRuntime): Promise<Row[]> {
  const boot = new Series();
  for (let round = 0; round < BOOTS; round++) {
    const identity = newIdentity();
    await bench.runtime.create(identity, MACHINE);
    const { pid } = await vmProcess(identity.id);
    process.kill(pid, "SIGKILL");
    while (bench.runtime.status(identity.id) === "running") await new Promise((resolve) => setTimeout(resolve, 20));
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
