import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Sprite } from "@fly/sprites";
import type { DiskMeterAnswer, DiskMeterRequest } from "@hob/protocol/api/daemon.ts";
import { PROJECT } from "../../lib/steps.ts";
import type { BenchContext, Part } from "../part.ts";
import { megabytesPerSecond, type Row, Series } from "../stats.ts";
import { BenchDaemon } from "../subjects/daemon.ts";

const NAME = "disk";
const METER = "/home/sprite/hob-disk-meter";
const FILE = "/home/sprite/meter-file";
/** Large enough that one pass takes a while, and that few random places fall into a block of the pool that was touched already. */
const SIZE_MB = 256;
/** More than a journal of 16 MiB has room for: each writes three blocks to it at least. */
const JOURNAL_SYNCS = 1_500;

interface Step {
  pattern: DiskMeterRequest["pattern"];
  what: string;
  /** the same places were written just before: none of their blocks is shared with a snapshot */
  again?: true;
  /** least ratio to raw ext4 */
  limit?: number;
}

/** In this order: each finds the file as the one before left it. */
const STEPS: readonly Step[] = [
  { pattern: "fill", what: "1 MiB sequential write of a new file, through the page cache" },
  { pattern: "sequential-read", what: "1 MiB sequential read", limit: 0.9 },
  { pattern: "sequential-write", what: "1 MiB sequential overwrite", again: true, limit: 0.9 },
  { pattern: "random-read", what: "4 KiB random read", limit: 0.9 },
  { pattern: "random-write", what: "4 KiB random overwrite, one sync at the end", again: true },
  { pattern: "random-fsync", what: "4 KiB random overwrite + fsync, steady state", again: true, limit: 0.8 },
];
const FIRST_TOUCH: Step = { pattern: "random-fsync", what: "4 KiB random write + fsync, first touch", limit: 0.45 };
const AFTER_CHECKPOINT: Step = { pattern: "random-fsync", what: "4 KiB random overwrite + fsync, right after a checkpoint", limit: 0.35 };
/** What databases call. The raw file system is much faster then, as it writes no journal, and the volume has the same work. */
const DATA_AFTER_CHECKPOINT: Step = { pattern: "random-fdatasync", what: "the same with fdatasync" };

/**
 * File access in a sprite (overlay, ext4, thin volume) beside an ext4 file system that lies on the same virtual disk of the
 * same VM without the volume's layers, by one program with the access patterns of fio. The two take turns.
 */
export const diskPart: Part = {
  name: "disk",
  title: "file access beside raw ext4 on the same disk",
  boundMinutes: { quick: 10, full: 30 },
  async run(context) {
    const [rounds, operations, syncs] = context.quick ? [3, 1_000, 300] : [7, 3_000, 600];
    const daemon = await BenchDaemon.start(context);
    const sprite = await daemon.create(NAME);
    await installMeter(context, sprite);
    const meters = new Meters(daemon, sprite, { operations, syncs });
    const rows: Row[] = [];
    for (const step of STEPS) rows.push(await measure(context, meters, step, rounds));
    rows.push(await firstTouch(context, meters, rounds));
    for (const step of [AFTER_CHECKPOINT, DATA_AFTER_CHECKPOINT]) rows.push(await afterCheckpoint(context, daemon, meters, step, rounds));
    await meters.remove();
    return rows;
  },
};

/** The program is built as that of the pilot is, and copied into the sprite. */
async function installMeter(context: BenchContext, sprite: Sprite): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "hob-meter-"));
  context.defer(() => rm(directory, { recursive: true, force: true }));
  const program = join(directory, "meter");
  await promisify(execFile)("sh", [join(PROJECT, "native/build.sh"), program, "hob-disk-meter"]);
  await sprite.filesystem().writeFile(METER, await readFile(program), { mode: 0o755 });
}

class Meters {
  readonly #daemon: BenchDaemon;
  readonly #sprite: Sprite;
  readonly #counts: { operations: number; syncs: number };

  /** @param counts accesses of 4 KiB in one measurement: `syncs` with a sync after each, `operations` without */
  constructor(daemon: BenchDaemon, sprite: Sprite, counts: { operations: number; syncs: number }) {
    this.#daemon = daemon;
    this.#sprite = sprite;
    this.#counts = counts;
  }

  /** Begins when the store has everything: an upload would have the processor at times that have nothing to do with this. */
  async inSprite({ pattern, again }: Pick<Step, "pattern" | "again">): Promise<number> {
    await this.#untilDurable();
    if (again) await this.#inSprite(pattern, this.#before(pattern));
    return await this.#inSprite(pattern);
  }

  async raw({ pattern, again }: Pick<Step, "pattern" | "again">): Promise<number> {
    await this.#untilDurable();
    if (again) await this.#raw(pattern, this.#before(pattern));
    return await this.#raw(pattern);
  }

  /** The journal, too, is written to blocks that are copied first, until it has been gone around. */
  #before(pattern: DiskMeterRequest["pattern"]): number {
    return Math.max(this.#operations(pattern), pattern === "random-fsync" ? JOURNAL_SYNCS : 0);
  }

  async remove(): Promise<void> {
    await this.#raw("remove");
  }

  async #inSprite(pattern: DiskMeterRequest["pattern"], operations = this.#operations(pattern)): Promise<number> {
    const { stdout } = await this.#sprite.execFile(METER, [FILE, pattern, String(SIZE_MB), String(operations)]);
    return speedOf(JSON.parse(String(stdout)) as DiskMeterAnswer);
  }

  async #raw(pattern: DiskMeterRequest["pattern"], operations = this.#operations(pattern)): Promise<number> {
    const body: DiskMeterRequest = { pattern, size_mb: SIZE_MB, operations };
    return speedOf(await this.#daemon.request<DiskMeterAnswer>("POST", `/v1/sprites/${NAME}/diagnostics/disk`, body));
  }

  async #untilDurable(): Promise<void> {
    await this.#daemon.request("POST", `/v1/sprites/${NAME}/sync`);
  }

  #operations(pattern: DiskMeterRequest["pattern"]): number {
    return pattern === "random-fsync" || pattern === "random-fdatasync" ? this.#counts.syncs : this.#counts.operations;
  }
}

const speedOf = ({ bytes, ms }: DiskMeterAnswer): number => megabytesPerSecond(bytes, ms);

async function measure(context: BenchContext, meters: Meters, step: Step, rounds: number): Promise<Row> {
  context.progress(step.what);
  const [inSprite, raw] = [new Series(), new Series()];
  for (let round = 0; round < rounds; round++) {
    // Each goes first as often as the other.
    if (round % 2 === 0) inSprite.add(await meters.inSprite(step));
    raw.add(await meters.raw(step));
    if (round % 2 === 1) inSprite.add(await meters.inSprite(step));
  }
  return rowOf(step, inSprite, raw);
}

/** The file has its place, but the volume has no blocks for it yet. */
async function firstTouch(context: BenchContext, meters: Meters, rounds: number): Promise<Row> {
  context.progress(FIRST_TOUCH.what);
  const [inSprite, raw] = [new Series(), new Series()];
  for (let round = 0; round < rounds; round++) {
    await meters.inSprite({ pattern: "reserve" });
    await meters.raw({ pattern: "reserve" });
    inSprite.add(await meters.inSprite(FIRST_TOUCH));
    raw.add(await meters.raw(FIRST_TOUCH));
  }
  await meters.inSprite({ pattern: "fill" });
  await meters.raw({ pattern: "fill" });
  return rowOf(FIRST_TOUCH, inSprite, raw);
}

/** Every block that is written is shared with the checkpoint, and copied first. */
async function afterCheckpoint(context: BenchContext, daemon: BenchDaemon, meters: Meters, step: Step, rounds: number): Promise<Row> {
  context.progress(step.what);
  const [inSprite, raw] = [new Series(), new Series()];
  for (let round = 0; round < rounds; round++) {
    await daemon.lastLine(`/v1/sprites/${NAME}/checkpoint`);
    inSprite.add(await meters.inSprite(step));
    raw.add(await meters.raw(step));
  }
  return rowOf(step, inSprite, raw);
}

const rowOf = ({ what, limit }: Step, inSprite: Series, raw: Series): Row => ({
  what,
  value: inSprite.p50,
  unit: "MB/s",
  n: inSprite.count,
  beside: { what: "raw ext4", value: raw.p50 },
  ...(limit === undefined ? {} : { budget: { kind: "ratio", limit } }),
});
