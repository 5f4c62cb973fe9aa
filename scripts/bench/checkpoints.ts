import { type Row, Series } from "./stats.ts";
import { BenchDaemon } from "./subjects.ts";

const SMALL_MB = 10;
const LARGE_MB = 1000;
const NAME = "checkpoints";
const PATH = `/v1/sprites/${NAME}`;

interface LastLine {
  type: string;
  error?: string;
  id?: string;
  pauseMs?: number;
}

/** What a checkpoint costs those who write, and how long a restore takes, with little and with much in the sprite. */
export async function benchCheckpoints(n: number): Promise<Row[]> {
  const daemon = await BenchDaemon.start();
  try {
    await daemon.client.createSprite(NAME);
    const small = await measure(daemon, SMALL_MB, n);
    const large = await measure(daemon, LARGE_MB, n);
    const pause = (mb: number, value: number): Row => {
      return { what: `checkpoint at ${mb} MB, pause, p50`, value, unit: "ms", n, budget: { kind: "value", limit: 150 } };
    };
    return [
      pause(SMALL_MB, small.pause.p50),
      {
        ...pause(LARGE_MB, large.pause.p50),
        beside: { what: `at ${SMALL_MB} MB`, value: small.pause.p50 },
        budget: { kind: "ratio", limit: 1.2 },
      },
      { what: `checkpoint at ${LARGE_MB} MB, until it is taken, p50`, value: large.taken.p50, unit: "ms", n },
      {
        what: `restore at ${LARGE_MB} MB → first exec output, p50`,
        value: large.restore.p50,
        unit: "ms",
        n,
        budget: { kind: "value", limit: 1500 },
        beside: { what: `at ${SMALL_MB} MB`, value: small.restore.p50 },
      },
    ];
  } finally {
    await daemon.stop();
  }
}

async function measure(daemon: BenchDaemon, mb: number, n: number): Promise<{ pause: Series; taken: Series; restore: Series }> {
  const [pause, taken, restore] = [new Series(), new Series(), new Series()];
  const sprite = daemon.sprite(NAME);
  const shell = (script: string) => sprite.execFile("sh", ["-c", script]);
  await shell(`mkdir -p ~/data && for i in $(seq ${mb / 10}); do head -c 10000000 /dev/urandom > ~/data/$i; done`);
  for (let round = -1; round < n; round++) {
    // Some of it is dirty at each checkpoint.
    await shell("head -c 10000000 /dev/urandom > ~/data/1");
    const start = performance.now();
    const { id, pauseMs = Number.NaN } = await lastLine(daemon, `${PATH}/checkpoint`);
    const takenMs = performance.now() - start;
    const restoreStart = performance.now();
    await lastLine(daemon, `${PATH}/checkpoints/${id}/restore`);
    await sprite.execFile("true");
    if (round < 0) continue;
    pause.add(pauseMs);
    taken.add(takenMs);
    restore.add(performance.now() - restoreStart);
  }
  return { pause, taken, restore };
}

async function lastLine(daemon: BenchDaemon, path: string): Promise<LastLine> {
  const lines = (await daemon.text("POST", path)).trimEnd().split("\n");
  const last = JSON.parse(lines.at(-1) ?? "{}") as LastLine;
  if (last.type !== "complete") throw new Error(`POST ${path}: ${last.error ?? "no last line"}`);
  return last;
}
