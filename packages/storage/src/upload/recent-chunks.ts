import type { ChunkRef } from "../map/chunk-ref.ts";
import { Lru } from "../util/lru.ts";

/** How long a chunk may be found again by its hash. Far below the grace period of `gc` (docs/formats/storage.md). */
export const RECENT_MAX_AGE_MS = 60 * 60 * 1000;

interface Recent {
  ref: ChunkRef;
  uploadedAt: number;
}

/**
 * Chunks uploaded a short while ago, by hash: content that has moved to another block, or that an upload had sent before it
 * was cut off, is not sent again. Bounded in number and in age.
 */
export class RecentChunks {
  readonly #chunks: Lru<string, Recent>;
  readonly #now: () => number;

  /** @param capacity chunks remembered; one takes some 300 bytes */
  constructor(capacity = 16_384, now: () => number = Date.now) {
    this.#chunks = new Lru(capacity);
    this.#now = now;
  }

  get(hash: string): ChunkRef | undefined {
    const recent = this.#chunks.get(hash);
    if (recent === undefined) return undefined;
    // A clock that was set back tells nothing of the age.
    const ageMs = this.#now() - recent.uploadedAt;
    if (ageMs >= 0 && ageMs <= RECENT_MAX_AGE_MS) return recent.ref;
    this.#chunks.delete(hash);
    return undefined;
  }

  delete(hash: string): void {
    this.#chunks.delete(hash);
  }

  /** @param uploadedAt when the upload of its pack began */
  add(ref: ChunkRef, uploadedAt: number): void {
    this.#chunks.set(ref.hash, { ref, uploadedAt });
  }
}
