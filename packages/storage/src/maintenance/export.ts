import { HobError } from "@hob/protocol";
import { decodeChunk } from "../format/chunk-codec.ts";
import { damaged } from "../format/damage.ts";
import { type CheckpointDocument, FORMAT_VERSION } from "../format/documents.ts";
import { OrgKeys } from "../format/keys.ts";
import { readCheckpoint, readHead, readSprite } from "../heads.ts";
import { ChunkMap } from "../map/chunk-map.ts";
import type { ChunkRef, MapRoot } from "../map/chunk-ref.ts";
import { PageStore } from "../map/page-store.ts";
import { diffMaps, type MapDifference } from "../map/traverse.ts";
import { planRuns } from "../read/runs.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { inBatches } from "../upload/batches.ts";
import { type ExportHeader, RecordType, RecordWriter } from "./export-records.ts";

/** Changes looked at together, so that chunks that lie together are read together. */
const BATCH = 64;

export interface ExportOptions {
  store: ObjectStore;
  org: string;
  sprite: string;
  signal?: AbortSignal;
  now?: () => Date;
}

interface State {
  root: MapRoot;
  checkpoint?: CheckpointDocument;
}

/**
 * A sprite with its whole history as one stream of bytes (docs/formats/storage.md, "Export"). Every chunk is verified on the
 * way. What is written while it runs is not in it; a checkpoint that is deleted meanwhile may end it.
 *
 * @throws HobError `not_found`, `data_damaged`, and what the store throws
 */
export async function* exportSprite(options: ExportOptions): AsyncGenerator<Buffer> {
  const { store, org, sprite, now = () => new Date() } = options;
  const keys = new OrgKeys(org).sprite(sprite);
  const present = await readHead(store, keys.head);
  if (present === undefined) throw new HobError("not_found", `sprite ${sprite} is not in ${store.description}`);
  const { head } = present;
  const description = await readSprite(store, org, sprite);
  const states: State[] = [];
  for (const { id } of head.checkpoints) {
    const checkpoint = await readCheckpoint(store, keys, head, id);
    states.push({ root: checkpoint.root, checkpoint });
  }
  states.push({ root: head.root });
  const header: ExportHeader = {
    format: "hob-export",
    version: FORMAT_VERSION,
    exportedAt: now().toISOString(),
    ...(description === undefined ? {} : { sprite: description }),
    head,
  };
  const out = new RecordWriter();
  yield out.magic();
  yield out.json(RecordType.header, header);
  const index: { state: number; offset: number; id: string | null }[] = [];
  for (const [number, state] of states.entries()) {
    index.push({ state: number, offset: out.offset, id: state.checkpoint?.id ?? null });
    yield* exportState(options, out, states, number, baseOf(states, number, head.parent));
  }
  yield out.json(RecordType.index, { states: index });
  yield out.end();
}

/** The state that this one probably differs least from: its parent, else the one before. */
function baseOf(states: readonly State[], number: number, parentOfHead: string | null): number | null {
  const checkpoint = states[number]?.checkpoint;
  const parent = checkpoint === undefined ? parentOfHead : checkpoint.parent;
  const found = states.findIndex((state, at) => at < number && state.checkpoint?.id === parent);
  if (found >= 0) return found;
  return number === 0 ? null : number - 1;
}

async function* exportState(
  options: ExportOptions,
  out: RecordWriter,
  states: readonly State[],
  number: number,
  base: number | null,
): AsyncGenerator<Buffer> {
  const { store, org, signal = new AbortController().signal } = options;
  const pages = new PageStore({ store, org, cachedPages: 64 });
  const { root, checkpoint } = states[number] as State;
  yield out.json(RecordType.state, { state: number, base, ...(checkpoint === undefined ? {} : { checkpoint }) });
  const before = base === null ? null : (states[base] as State).root;
  let changes = 0;
  for await (const batch of inBatches(diffMaps(pages, before, root), BATCH, signal)) {
    const stored = await readStored(store, pages.keys, batch);
    for (const { block, after } of batch) {
      changes++;
      if (after === null) yield out.zero(block, 1);
      else yield out.block({ block, encoding: after.encoding, hash: after.hash, bytes: stored.get(after.hash) as Buffer });
    }
  }
  const storedBlocks = await new ChunkMap({ store, org, root, pages }).storedBlocks();
  yield out.json(RecordType.endState, { state: number, changes, storedBlocks });
}

/** The stored bytes of the chunks that blocks change to, by hash. */
async function readStored(store: ObjectStore, keys: OrgKeys, changes: readonly MapDifference[]): Promise<Map<string, Buffer>> {
  const refs = new Map<string, ChunkRef>();
  for (const { after } of changes) if (after !== null) refs.set(after.hash, after);
  const stored = new Map<string, Buffer>();
  for (const run of planRuns([...refs.values()])) {
    const key = keys.pack(run.pack);
    const object = await store.get(key, { range: { offset: run.offset, length: run.length } });
    if (object?.data.length !== run.length)
      throw damaged(key, object === undefined ? "is missing" : `ends before byte ${run.offset + run.length}`);
    for (const ref of run.refs) {
      const bytes = object.data.subarray(ref.offset - run.offset, ref.offset - run.offset + ref.storedBytes);
      await decodeChunk(key, { encoding: ref.encoding, bytes }, ref.hash);
      stored.set(ref.hash, bytes);
    }
  }
  return stored;
}
