import type { BlockRange } from "@hob/storage";
import { BlockSpans } from "../volume/block-spans.ts";
import type { ThinPool } from "../volume/thin-pool.ts";

/** Ranges of all snapshots that are remembered at a time; one takes some 50 bytes. The snapshot that was asked for last always is. */
const RANGES_MAX = 200_000;

/** What was written to snapshots, in ascending order. To read that takes as long as a snapshot has mappings: it is remembered. */
export class WrittenBlocks {
  readonly #pool: Pick<ThinPool, "changedBlocks">;
  readonly #rangesMax: number;
  /** by thin device, the one that was asked for the longest ago first */
  readonly #known = new Map<number, readonly BlockRange[]>();

  constructor(pool: Pick<ThinPool, "changedBlocks">, rangesMax = RANGES_MAX) {
    this.#pool = pool;
    this.#rangesMax = rangesMax;
  }

  /** Of a snapshot, which does not change. */
  async of(thin: number): Promise<readonly BlockRange[]> {
    const ranges = this.#known.get(thin) ?? (await this.#read(thin));
    this.#known.delete(thin);
    this.#known.set(thin, ranges);
    this.#forget();
    return ranges;
  }

  /** The pool tells apart what lies side by side in the snapshot, but not in the pool. */
  async #read(thin: number): Promise<BlockRange[]> {
    const spans = new BlockSpans(Number.POSITIVE_INFINITY);
    for await (const { begin, length } of this.#pool.changedBlocks(undefined, thin)) spans.add({ first: begin, count: length });
    return [...spans];
  }

  #forget(): void {
    let left = [...this.#known.values()].reduce((sum, { length }) => sum + length, 0);
    for (const [thin, { length }] of this.#known) {
      if (left <= this.#rangesMax || this.#known.size === 1) return;
      this.#known.delete(thin);
      left -= length;
    }
  }
}
