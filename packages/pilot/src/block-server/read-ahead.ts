/** Readers told apart at a time: those who read several files side by side. */
const STREAMS = 8;
/** Requests of one reader may come a little out of order: the kernel sends several at a time. */
const SLACK_BLOCKS = 4;
const FIRST_WINDOW_BLOCKS = 4;
const LAST_WINDOW_BLOCKS = 64;

export interface Blocks {
  first: number;
  count: number;
}

interface Stream {
  /** where it goes on if it is read in order */
  next: number;
  fetchedTo: number;
  window: number;
}

/**
 * Tells reads in order from others, and says what to fetch ahead of them: nothing at the first read, then more each time, as
 * the kernel does for files. It knows nothing of what there is to be read.
 */
export class ReadAhead {
  readonly #total: number;
  /** the one that was read last is last */
  readonly #streams: Stream[] = [];

  /** @param total blocks of the device */
  constructor(total: number) {
    this.#total = total;
  }

  /** Takes note of a read. @returns what is worth fetching now, beyond what was read */
  note({ first, count }: Blocks): Blocks | undefined {
    const end = first + count;
    const at = this.#streams.findLastIndex(({ next }) => Math.abs(first - next) <= SLACK_BLOCKS);
    const [found] = at < 0 ? [] : this.#streams.splice(at, 1);
    const stream = found ?? { next: end, fetchedTo: end, window: FIRST_WINDOW_BLOCKS / 2 };
    this.#streams.push(stream);
    if (this.#streams.length > STREAMS) this.#streams.shift();
    if (end <= stream.next) return undefined;
    stream.next = end;
    stream.window = Math.min(stream.window * 2, LAST_WINDOW_BLOCKS);
    // Not a block at a time: half a window is one request.
    const from = Math.max(end, stream.fetchedTo);
    const to = Math.min(end + stream.window, this.#total);
    if (to - from < Math.min(stream.window / 2, this.#total - from) || to <= from) return undefined;
    stream.fetchedTo = to;
    return { first: from, count: to - from };
  }
}
