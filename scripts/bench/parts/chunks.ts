import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ObjectStore } from "@hob/storage";
import { measureWorkloads } from "../measure-workloads.ts";
import type { BenchContext, Part } from "../part.ts";
import { cut, type RechunkResult, rechunk, renumber, type Sizes } from "../rechunk.ts";
import { markdownTable } from "../report.ts";
import type { Row } from "../stats.ts";
import { BenchDaemon } from "../subjects/daemon.ts";
import {
  type ChangedBlock,
  changedPages,
  loadStates,
  openDirectory,
  PAGE_BYTES,
  storeOf,
  VolumeChange,
  type WorkloadStates,
} from "../volume-states.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
/** those of the format, docs/formats/storage.md */
const PRESENT: Sizes = { chunkBytes: 64 * KIB, packBytes: 8 * MIB };
const TRIED: readonly Sizes[] = [
  ...[16, 64, 128, 256, 1024].map((kib) => ({ chunkBytes: kib * KIB, packBytes: PRESENT.packBytes })),
  ...[1, 2, 32].map((mib) => ({ chunkBytes: PRESENT.chunkBytes, packBytes: mib * MIB })),
];

/** What chunks and packs of other sizes would cost, for what three workloads changed in a sprite's volume. */
export const chunksPart: Part = {
  name: "chunks",
  title: "chunk and pack sizes",
  boundMinutes: { quick: 10, full: 30 },
  async run(context) {
    const { store, states } = await findStates(context);
    const rows: Row[] = [];
    const body: string[][] = [];
    for (const { name, before, after } of states) {
      const tried = await tryAll(context, name, new VolumeChange(store, before, after));
      body.push(...tried.results.map((result) => cellsOf(name, result, tried.changedBytes)));
      rows.push(rowOf(name, tried));
    }
    return { rows, appendix: markdownTable(HEAD, body) };
  },
};

/** Those that `amplification` left, else of a run of its own. */
async function findStates(context: BenchContext): Promise<{ store: ObjectStore; states: WorkloadStates }> {
  const left = context.states === undefined ? undefined : await loadStates(context.states);
  if (context.states !== undefined && left !== undefined) return { store: await openDirectory(storeOf(context.states)), states: left };
  const directory = await mkdtemp(join(tmpdir(), "hob-bench-store-"));
  context.defer(() => rm(directory, { recursive: true, force: true }));
  const daemon = await BenchDaemon.start(context, { store: directory });
  const store = await openDirectory(directory);
  const { measured } = await measureWorkloads(context, daemon, await daemon.create("chunks"), store);
  await daemon.pause();
  return { store, states: measured };
}

interface Tried {
  results: RechunkResult[];
  /** 4 KiB pages that differ */
  changedBytes: number;
}

async function tryAll(context: BenchContext, name: string, change: VolumeChange): Promise<Tried> {
  const changed: ChangedBlock[] = [];
  for await (const block of change.blocks()) changed.push(block);
  const changedBytes = changed.reduce((sum, block) => sum + changedPages(block).length * PAGE_BYTES, 0);
  const existing = await change.storedBefore();
  const results: RechunkResult[] = [];
  for (const sizes of TRIED) {
    context.progress(`${name}: chunks of ${sizes.chunkBytes / KIB} KiB, packs of ${sizes.packBytes / MIB} MiB`);
    const chunks = cut(iterate(changed), sizes.chunkBytes, (block) => change.readAfter(block));
    results.push(await rechunk(renumber(existing, sizes.chunkBytes), chunks, sizes));
  }
  return { results, changedBytes };
}

async function* iterate<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}

const HEAD = [
  "workload",
  "chunk",
  "pack",
  "uploaded, before compression",
  "per byte changed",
  "stored, with maps",
  "objects",
  "all of it read again: requests",
  "1,000 reads of 4 KiB: requests",
  "fetched for them",
];

const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

function cellsOf(name: string, result: RechunkResult, changedBytes: number): string[] {
  const { chunkBytes, packBytes, plainBytes, storedBytes, objects, sequential, random } = result;
  return [
    ...[name, `${chunkBytes / KIB} KiB`, `${packBytes / MIB} MiB`],
    ...[mb(plainBytes), (plainBytes / changedBytes).toFixed(2), mb(storedBytes), String(objects)],
    ...[String(sequential.requests), String(random.requests), mb(random.bytes)],
  ];
}

/** The present sizes, beside the best of the others in the sum of what is uploaded. */
function rowOf(name: string, { results, changedBytes }: Tried): Row {
  const isPresent = ({ chunkBytes, packBytes }: Sizes) => chunkBytes === PRESENT.chunkBytes && packBytes === PRESENT.packBytes;
  const present = results.find(isPresent);
  const beside = { what: "4 KiB pages that differ", value: changedBytes / 1e6 };
  return {
    what: `${name}: a checkpoint with the present sizes, before compression`,
    value: (present?.plainBytes ?? Number.NaN) / 1e6,
    unit: "MB",
    n: 1,
    beside,
  };
}
