import type { Sprite } from "@fly/sprites";
import type { BenchContext, Part } from "../part.ts";
import { megabytesPerSecond, type Row, Series } from "../stats.ts";
import { BenchDaemon } from "../subjects/daemon.ts";
import { timeMs } from "../subjects/machine.ts";

const MIB = 1024 * 1024;
const SESSIONS = 50;
/** Of the small execs every so many has a `crun exec` beside it, which takes longer. */
const CRUN_EVERY = 10;

/** Running programs: many small ones, many at once, and one with much output. */
export const execPart: Part = {
  name: "exec",
  title: "exec: sequential, parallel, throughput",
  boundMinutes: { quick: 5, full: 10 },
  async run(context) {
    const daemon = await BenchDaemon.start(context);
    const sprite = await daemon.create("exec");
    const small = await benchSmall(context, daemon, sprite, context.quick ? 100 : 1000);
    const parallel = await benchParallel(context, sprite);
    const streams = await benchStreams(context, daemon, sprite);
    const resident: Row = { what: "hobd, resident, after this run", value: await daemon.residentMb(), unit: "MB", n: 1 };
    return [...small, ...parallel, ...streams, resident];
  },
};

/** Each prints a number of its own: an answer that is lost, cut or another's shows. */
async function benchSmall(context: BenchContext, daemon: BenchDaemon, sprite: Sprite, n: number): Promise<Row[]> {
  context.progress(`${n} small execs, one after the other`);
  const [exec, plain, crun] = [new Series(), new Series(), new Series()];
  let lost = 0;
  for (let round = -3; round < n; round++) {
    const text = `exec ${round}\n`;
    const ms = await timeMs(async () => {
      const result = await sprite.execFile("printf", [text]).catch((error: unknown) => error as Error);
      if (!("exitCode" in result) || result.exitCode !== 0 || String(result.stdout) !== text) lost++;
    });
    if (round < 0) continue;
    exec.add(ms);
    if (round % CRUN_EVERY > 0) continue;
    plain.add(await timeMs(() => sprite.execFile("true")));
    crun.add((await daemon.request<{ ms: number }>("POST", "/v1/sprites/exec/diagnostics/crun-exec")).ms);
  }
  const beside = (value: number) => ({ what: "crun exec true in the VM", value });
  const rounds = plain.count;
  return [
    { what: `${n} sequential small execs: lost`, value: lost, unit: "", n, budget: { kind: "value", limit: 0 } },
    { what: "small exec over the API, p50", value: exec.p50, unit: "ms", n },
    { what: "small exec over the API, p99", value: exec.percentile(99), unit: "ms", n },
    {
      what: "exec true over the API, p50",
      value: plain.p50,
      unit: "ms",
      n: rounds,
      beside: beside(crun.p50),
      budget: { kind: "ratio", limit: 1 },
    },
    { what: "exec true over the API, p90", value: plain.percentile(90), unit: "ms", n: rounds, beside: beside(crun.percentile(90)) },
  ];
}

/** Each program waits for a line before it answers, so all of them run at once; each line must come back from the right one. */
async function benchParallel(context: BenchContext, sprite: Sprite): Promise<Row[]> {
  context.progress(`${SESSIONS} sessions at once`);
  const alone = new Series();
  for (let i = 0; i < 5; i++) alone.add(await timeMs(() => converse(sprite, `alone ${i}`, Promise.resolve())));
  let open = 0;
  const all = Promise.withResolvers<void>();
  const opened = () => {
    if (++open === SESSIONS) all.resolve();
    if (open % 10 === 0) context.progress(`${open} are open`);
  };
  const answered = new Series();
  const start = performance.now();
  const outcomes = await Promise.allSettled(
    Array.from({ length: SESSIONS }, async (_, i) => {
      await converse(sprite, `session ${i}`, all.promise, opened);
      answered.add(performance.now() - start);
    }),
  );
  const lost = outcomes.filter(({ status }) => status === "rejected").length;
  const beside = { what: `${SESSIONS} times one alone`, value: SESSIONS * alone.p50 };
  return [
    { what: `${SESSIONS} parallel sessions: lost`, value: lost, unit: "", n: SESSIONS, budget: { kind: "value", limit: 0 } },
    { what: `${SESSIONS} parallel sessions, until all have answered`, value: answered.percentile(100), unit: "ms", n: SESSIONS, beside },
  ];
}

async function converse(sprite: Sprite, text: string, go: Promise<void>, opened = () => {}): Promise<void> {
  const command = sprite.spawn("sh", ["-c", 'echo ready; read line; echo "$line"']);
  const ready = Promise.withResolvers<void>();
  let output = "";
  command.stdout.on("data", (chunk: Buffer) => {
    output += chunk;
    ready.resolve();
  });
  command.on("error", (error) => ready.reject(error));
  // One that fails counts as well: it must not hold up the others for ever.
  await ready.promise.finally(opened);
  await go;
  command.stdin.end(`${text}\n`);
  const code = await command.wait();
  if (code !== 0 || output !== `ready\n${text}\n`) throw new Error(`exit ${code}, output ${JSON.stringify(output.slice(0, 100))}`);
}

async function benchStreams(context: BenchContext, daemon: BenchDaemon, sprite: Sprite): Promise<Row[]> {
  const [n, mib] = context.quick ? [2, 16] : [5, 64];
  const bytes = mib * MIB;
  context.progress("output of one exec");
  const [exec, plain] = [new Series(), new Series()];
  for (let round = 0; round < n; round++) {
    let received = 0;
    const execMs = await timeMs(async () => {
      const command = sprite.spawn("head", ["-c", String(bytes), "/dev/zero"]);
      command.stdout.on("data", (chunk: Buffer) => {
        received += chunk.length;
      });
      await command.wait();
    });
    if (received !== bytes) throw new Error(`exec lost output: ${received} of ${bytes} bytes`);
    exec.add(megabytesPerSecond(bytes, execMs));
    const plainMs = await timeMs(() => daemon.drain(`/v1/sprites/exec/diagnostics/stream?bytes=${bytes}`));
    plain.add(megabytesPerSecond(bytes, plainMs));
  }
  const beside = { what: "plain HTTP body from the pilot", value: plain.p50 };
  return [{ what: `exec stdout, ${mib} MiB, p50`, value: exec.p50, unit: "MB/s", n, beside }];
}
