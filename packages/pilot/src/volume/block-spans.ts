import type { BlockRange } from "@hob/storage";

/** Spans that are told apart; beyond that, those that are nearest to each other become one. */
const SPANS_MAX = 512;

/** Covers ranges of blocks with a bounded number of spans: all blocks of the ranges, and as few others as that allows. */
export class BlockSpans implements Iterable<BlockRange> {
  readonly #spansMax: number;
  #spans: { first: number; end: number }[] = [];
  /** blocks between two spans up to which they are one */
  #gap = 0;

  /** @param spansMax infinite: no block of the cover lies in no range */
  constructor(spansMax = SPANS_MAX) {
    this.#spansMax = spansMax;
  }

  /** In ascending order. */
  add({ first, count }: BlockRange): void {
    const last = this.#spans.at(-1);
    if (last !== undefined && first - last.end <= this.#gap) last.end = Math.max(last.end, first + count);
    else this.#spans.push({ first, end: first + count });
    while (this.#spans.length > this.#spansMax) this.#growTogether();
  }

  *[Symbol.iterator](): Iterator<BlockRange> {
    for (const { first, end } of this.#spans) yield { first, count: end - first };
  }

  #growTogether(): void {
    const spans = this.#spans;
    this.#spans = [];
    this.#gap = Math.max(1, this.#gap * 2);
    for (const { first, end } of spans) {
      const last = this.#spans.at(-1);
      if (last !== undefined && first - last.end <= this.#gap) last.end = end;
      else this.#spans.push({ first, end });
    }
  }
}
