import { Readable } from "node:stream";
import type { Sprite, SpriteFilesystem } from "@fly/sprites";
import type { BenchContext, Part } from "../part.ts";
import { megabytesPerSecond, type Row, Series } from "../stats.ts";
import { BenchDaemon } from "../subjects/daemon.ts";
import { timeMs } from "../subjects/machine.ts";
import { pipeIn } from "../subjects/pipe-in.ts";

const PATH = "/home/sprite/file";
const PIECE_BYTES = 64 * 1024;
const SMALL = Buffer.alloc(1024, "x");

/** The file API, through the SDK: large files beside the same bytes another way, small ones beside a program that does it. */
export const filesPart: Part = {
  name: "files",
  title: "reading and writing files over the API",
  boundMinutes: { quick: 4, full: 8 },
  async run(context) {
    const daemon = await BenchDaemon.start(context);
    const sprite = await daemon.create("files");
    const files = sprite.filesystem();
    const large = await benchLarge(context, daemon, sprite, files);
    return [...large, ...(await benchSmall(context, sprite, files))];
  },
};

async function benchLarge(context: BenchContext, daemon: BenchDaemon, sprite: Sprite, files: SpriteFilesystem): Promise<Row[]> {
  const [n, mb] = context.quick ? [2, 16] : [5, 64];
  const bytes = mb * 1024 * 1024;
  const data = Buffer.alloc(bytes, "0123456789abcdef");
  const [write, throughExec, read, plain] = [new Series(), new Series(), new Series(), new Series()];
  context.progress(`${n} times ${mb} MiB, written and read`);
  for (let round = 0; round < n; round++) {
    write.add(megabytesPerSecond(bytes, await timeMs(() => files.writeFile(PATH, data))));
    let back: Buffer | undefined;
    const readMs = await timeMs(async () => {
      back = await files.readFile(PATH, null);
    });
    if (back?.equals(data) !== true) throw new Error("a file is not what was written");
    read.add(megabytesPerSecond(bytes, readMs));
    throughExec.add(megabytesPerSecond(bytes, await timeMs(() => pipeIn(sprite, `cat > ${PATH}.piped`, Readable.from(piecesOf(data))))));
    plain.add(megabytesPerSecond(bytes, await timeMs(() => daemon.drain(`/v1/sprites/files/diagnostics/stream?bytes=${bytes}`))));
  }
  const besideExec = { what: "through the standard input of an exec of cat", value: throughExec.p50 };
  const besidePlain = { what: "plain HTTP body from the pilot", value: plain.p50 };
  return [
    { what: `file of ${mb} MiB, write, p50`, value: write.p50, unit: "MB/s", n, beside: besideExec },
    { what: `file of ${mb} MiB, read, p50`, value: read.p50, unit: "MB/s", n, beside: besidePlain },
  ];
}

/** As a program writes them: what is written at once is one message of the WebSocket, and those have a limit. */
function* piecesOf(data: Buffer): Generator<Buffer> {
  for (let at = 0; at < data.length; at += PIECE_BYTES) yield data.subarray(at, at + PIECE_BYTES);
}

async function benchSmall(context: BenchContext, sprite: Sprite, files: SpriteFilesystem): Promise<Row[]> {
  const n = context.quick ? 20 : 200;
  const [write, read, exec] = [new Series(), new Series(), new Series()];
  context.progress(`${n} small files`);
  for (let round = -2; round < n; round++) {
    const path = `${PATH}-${round}`;
    const writeMs = await timeMs(() => files.writeFile(path, SMALL));
    const readMs = await timeMs(() => files.readFile(path));
    const execMs = await timeMs(() => sprite.execFile("cat", [path]));
    if (round < 0) continue;
    write.add(writeMs);
    read.add(readMs);
    exec.add(execMs);
  }
  const beside = { what: "exec of cat on it", value: exec.p50 };
  return [
    { what: "file of 1 KiB, write, p50", value: write.p50, unit: "ms", n, beside },
    { what: "file of 1 KiB, read, p50", value: read.p50, unit: "ms", n, beside },
  ];
}
