import type { BlockRange } from "../map/chunk-ref.ts";

/** A set of blocks, given as ranges in any order. */
export class Ranges {
  readonly #ranges: BlockRange[] = [];

  constructor(ranges: readonly BlockRange[]) {
    for (const { first, count } of ranges.toSorted((a, b) => a.first - b.first)) {
      const last = this.#ranges.at(-1);
      const end = last === undefined ? -1 : last.first + last.count;
      if (last === undefined || first > end) this.#ranges.push({ first, count });
      else this.#ranges[this.#ranges.length - 1] = { first: last.first, count: Math.max(end, first + count) - last.first };
    }
  }

  get size(): number {
    return this.#ranges.reduce((sum, { count }) => sum + count, 0);
  }

  /** Whether any of these blocks is in the set. */
  has(first: number, count = 1): boolean {
    const range = this.#ranges[this.#from(first)];
    return range !== undefined && range.first < first + count;
  }

  /** Whether all of them are. */
  covers(first: number, count: number): boolean {
    const range = this.#ranges[this.#from(first)];
    return range !== undefined && range.first <= first && first + count <= range.first + range.count;
  }

  /** Those of the set that lie here. */
  within(first: number, count: number): Ranges {
    const found: BlockRange[] = [];
    for (let at = this.#from(first); at < this.#ranges.length; at++) {
      const range = this.#ranges[at] as BlockRange;
      if (range.first >= first + count) break;
      const begin = Math.max(range.first, first);
      found.push({ first: begin, count: Math.min(range.first + range.count, first + count) - begin });
    }
    return new Ranges(found);
  }

  /** Ascending. */
  *blocks(): Generator<number> {
    for (const { first, count } of this.#ranges) for (let block = first; block < first + count; block++) yield block;
  }

  /** Index of the first range that ends after this block. */
  #from(block: number): number {
    let low = 0;
    for (let high = this.#ranges.length; low < high; ) {
      const middle = (low + high) >> 1;
      const range = this.#ranges[middle] as BlockRange;
      if (range.first + range.count > block) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
