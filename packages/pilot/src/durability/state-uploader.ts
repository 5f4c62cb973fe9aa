import {
  type BlockChange,
  ChunkMap,
  type MapRoot,
  type ObjectStore,
  type PageStore,
  RecentChunks,
  Uploader,
  type UploadOptions,
  type UploadResult,
} from "@hob/storage";

/** Chunks of a known map that are remembered: more than an upload has in hand at a time. */
const KNOWN_CHUNKS = 1_024;

export interface StateUploadOptions extends UploadOptions {
  /** map of a similar state: a chunk that it has in the same place is not sent again. A head names it until the upload is over */
  known?: MapRoot;
}

export interface StateUploaderParts {
  store: ObjectStore;
  org: string;
  pages: PageStore;
}

/** Brings states of a volume into the store, each against the map of a state before it. */
export class StateUploader {
  readonly #parts: StateUploaderParts;
  #uploader: Uploader;

  constructor(parts: StateUploaderParts) {
    this.#parts = parts;
    this.#uploader = new Uploader(parts);
  }

  /** What was sent before is not found by its hash any more, but by what is under way: `gc` may be about to remove it. */
  forget(): void {
    this.#uploader = new Uploader(this.#parts);
  }

  /** @throws as `Uploader.upload` */
  async upload(
    base: MapRoot,
    changes: AsyncIterable<BlockChange>,
    { known = null, ...options }: StateUploadOptions,
  ): Promise<UploadResult> {
    if (known === null || known === base) return await this.#uploader.upload(base, changes, options);
    // Not for longer than this upload: what the known map names may be garbage when no head names it any more.
    const recent = new RecentChunks(KNOWN_CHUNKS);
    return await new Uploader({ ...this.#parts, recent }).upload(base, this.#remembering(recent, known, changes), options);
  }

  /** Each chunk is remembered just before its block comes, so that the hash of the block finds it. */
  async *#remembering(recent: RecentChunks, known: string, changes: AsyncIterable<BlockChange>): AsyncGenerator<BlockChange> {
    const map = new ChunkMap({ ...this.#parts, root: known });
    for await (const change of changes) {
      // What cannot be read of the map is sent again.
      const ref = change.data === undefined ? undefined : await map.lookup(change.block).catch(() => undefined);
      if (ref !== undefined) recent.add(ref, Date.now());
      yield change;
    }
  }
}
