import { HobError } from "@hob/protocol";
import { decodeChunk } from "../format/chunk-codec.ts";
import { type CheckpointDocument, encodeDocument, type SpriteDocument } from "../format/documents.ts";
import { sha256 } from "../format/hash.ts";
import { OrgKeys } from "../format/keys.ts";
import type { MapRoot } from "../map/chunk-ref.ts";
import { acquire } from "../ownership/acquire.ts";
import { numberOf } from "../ownership/checkpoint-number.ts";
import type { Ownership } from "../ownership/ownership.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { RecentChunks } from "../upload/recent-chunks.ts";
import type { BlockChange, UploadResult } from "../upload/types.ts";
import { Uploader } from "../upload/uploader.ts";
import {
  type ExportHeader,
  type ExportRecord,
  type ExportState,
  exportEndState,
  exportHeader,
  exportIndex,
  exportState,
  malformed,
  parseBlock,
  parseJsonRecord,
  parseZero,
  RecordReader,
  RecordType,
} from "./export-records.ts";

export interface ImportOptions {
  store: ObjectStore;
  org: string;
  /** id of the new sprite */
  sprite: string;
  owner: string;
  source: AsyncIterable<Uint8Array>;
  /** called before anything is written; what it throws ends the import */
  onHeader?: (header: ExportHeader) => void;
  signal?: AbortSignal;
  onProgress?: (progress: { states: number; blocks: number }) => void;
}

export interface ImportResult {
  ownership: Ownership;
  /** of the sprite that was exported; missing when the export has none */
  description: SpriteDocument | undefined;
}

/**
 * Makes the storage of a new sprite from an export. Bounded in memory, whatever the size. The head is written last, after the
 * whole file was found to be right: of one that is not, nothing but garbage for `gc` remains.
 *
 * @throws HobError `invalid_request` when the file is damaged or no export, `store_unsupported` when it is too new, `conflict`
 *   when the sprite exists, and what the store throws
 */
export async function importSprite(options: ImportOptions): Promise<ImportResult> {
  const reader = new RecordReader(options.source);
  try {
    return await new Import(options, reader).run();
  } finally {
    await reader.close();
  }
}

interface ImportedState {
  root: MapRoot;
  storedBlocks: number;
  checkpoint: CheckpointDocument | undefined;
}

class Import {
  readonly #options: ImportOptions;
  readonly #reader: RecordReader;
  readonly #uploader: Uploader;
  readonly #states: ImportedState[] = [];
  readonly #offsets: number[] = [];
  #blocks = 0;

  constructor(options: ImportOptions, reader: RecordReader) {
    const { store, org } = options;
    this.#options = options;
    this.#reader = reader;
    this.#uploader = new Uploader({ store, org, recent: new RecentChunks(65_536) });
  }

  async run(): Promise<ImportResult> {
    const startedAt = Date.now();
    await this.#reader.begin();
    const header = parseJsonRecord(expect(await this.#reader.next(), RecordType.header), exportHeader);
    this.#options.onHeader?.(header);
    let record = await this.#reader.next();
    for (; record.type === RecordType.state; record = await this.#reader.next()) await this.#state(record);
    this.#checkStates(header, parseJsonRecord(expect(record, RecordType.index), exportIndex));
    expect(await this.#reader.next(), RecordType.end);
    const ownership = await this.#publish(header, startedAt);
    return { ownership, description: header.sprite };
  }

  async #state(record: ExportRecord): Promise<void> {
    const state = parseJsonRecord(record, exportState);
    const number = this.#states.length;
    const base = state.base === null ? undefined : this.#states[state.base];
    if (state.state !== number || (state.base !== null && base === undefined)) throw malformed(`state ${state.state} is out of order`);
    if (number > 0 && this.#states.at(-1)?.checkpoint === undefined) throw malformed("a state follows the newest");
    this.#offsets.push(record.offset);
    const end = { changes: 0, storedBlocks: 0 };
    const result = await this.#upload(base?.root ?? null, this.#changes(state, end));
    if (result.storedBlocks !== end.storedBlocks)
      throw malformed(`state ${number} has ${result.storedBlocks} blocks instead of ${end.storedBlocks}`);
    this.#states.push({ root: result.root, storedBlocks: result.storedBlocks, checkpoint: state.checkpoint });
  }

  #upload(base: MapRoot, changes: AsyncIterable<BlockChange>): Promise<UploadResult> {
    const { signal, onProgress } = this.#options;
    const progress = (): void => onProgress?.({ states: this.#states.length, blocks: this.#blocks });
    return this.#uploader.upload(base, changes, { ...(signal === undefined ? {} : { signal }), onProgress: progress });
  }

  /** The changes of one state, up to its END_STATE, which goes to `end`. */
  async *#changes(state: ExportState, end: { changes: number; storedBlocks: number }): AsyncGenerator<BlockChange> {
    let last = -1;
    let changes = 0;
    for (;;) {
      const record = await this.#reader.next();
      if (record.type === RecordType.endState) {
        Object.assign(end, parseJsonRecord(record, exportEndState));
        if (end.changes !== changes) throw malformed(`state ${state.state} has ${changes} changes instead of ${end.changes}`);
        return;
      }
      changes++;
      const change: Changed = record.type === RecordType.zero ? parseZero(record) : await blockOf(record);
      if (change.first <= last) throw malformed(`the blocks of state ${state.state} do not ascend`);
      last = change.first + change.count - 1;
      for (let block = change.first; block <= last; block++) yield { block, data: change.data };
      this.#blocks += change.count;
    }
  }

  #checkStates(header: ExportHeader, index: { states: readonly { state: number; offset: number; id: string | null }[] }): void {
    if (this.#states.at(-1)?.checkpoint !== undefined || this.#states.length !== header.head.checkpoints.length + 1)
      throw malformed("it does not have the states that its head names");
    const listed = index.states.map(({ state, offset, id }) => `${state} ${offset} ${id}`).join();
    const found = this.#states.map(({ checkpoint }, number) => `${number} ${this.#offsets[number]} ${checkpoint?.id ?? null}`).join();
    if (listed !== found) throw malformed("its index does not fit");
    header.head.checkpoints.forEach(({ id }, number) => {
      const checkpoint = this.#states[number]?.checkpoint;
      if (checkpoint?.id !== id) throw malformed("its checkpoints are not those of its head");
      if (checkpoint.volumeBytes !== header.head.volumeBytes) throw malformed(`checkpoint ${id} is of a volume of another size`);
      // The next one would get a number that is taken, and could never be kept.
      if ((numberOf(id) ?? 0) > header.head.lastCheckpoint) throw malformed(`its head does not know of the number of checkpoint ${id}`);
    });
  }

  async #publish({ head }: ExportHeader, startedAt: number): Promise<Ownership> {
    const { store, org, sprite, owner } = this.#options;
    const keys = new OrgKeys(org).sprite(sprite);
    const checkpoints: { id: string; document: string }[] = [];
    for (const { checkpoint, root, storedBlocks } of this.#states) {
      if (checkpoint === undefined) continue;
      const origin = checkpoint.origin ?? { sprite: checkpoint.sprite, checkpoint: checkpoint.id };
      const bytes = encodeDocument({ ...checkpoint, sprite, root, storedBlocks, epoch: 1, origin });
      const document = sha256(bytes);
      await store.put(keys.checkpoint(checkpoint.id, document), bytes);
      checkpoints.push({ id: checkpoint.id, document });
    }
    const newest = this.#states.at(-1) as ImportedState;
    const initial = {
      volumeBytes: head.volumeBytes,
      root: newest.root,
      storedBlocks: newest.storedBlocks,
      parent: head.parent,
      checkpoints,
      lastCheckpoint: head.lastCheckpoint,
      ...(head.lastAutomatic === undefined ? {} : { lastAutomatic: head.lastAutomatic }),
      origin: { sprite: head.sprite, checkpoint: null },
      ...(head.attributes === undefined ? {} : { attributes: head.attributes }),
    };
    return await acquire({ store, org, sprite, owner, initial, startedAt, create: true });
  }
}

interface Changed {
  first: number;
  count: number;
  /** missing for zeros */
  data?: Buffer;
}

async function blockOf(record: ExportRecord): Promise<Changed> {
  const { block, encoding, hash, bytes } = parseBlock(expect(record, RecordType.block));
  try {
    return { first: block, count: 1, data: await decodeChunk("the export", { encoding, bytes }, hash) };
  } catch (error) {
    throw error instanceof HobError && error.code === "data_damaged" ? malformed(error.message, error) : error;
  }
}

function expect(record: ExportRecord, type: number): ExportRecord {
  if (record.type !== type) throw malformed(`a record of type ${record.type} is at ${record.offset}, where one of type ${type} belongs`);
  return record;
}
