import type { Journal, OutputRecord } from "./journal/index.ts";
import type { Place } from "./journal/segments.ts";

/** What a client sees of a session; implemented per transport. */
export interface SessionClient {
  /** @returns false to get no more before it calls {@link OutputReader.wake} */
  output(stream: number, data: Buffer): boolean;
  /** after all output; `exitCode` is 0 to 255 */
  ended(exitCode: number): void;
  /** Nothing more comes; the client may attach again. @param reason for people, one short line */
  cut(reason: string): void;
  /** input that had to wait is on its way */
  inputDrained(): void;
}

/** One client's way through a journal: live where it keeps up, and from memory or disk where it is behind. */
export class OutputReader {
  readonly client: SessionClient;
  /** called when it has read on */
  onProgress: () => void = () => {};
  readonly #journal: Journal;
  #offset: number;
  #progressMs = performance.now();
  #started = false;
  #stopped = false;
  #isWorking = false;
  #isBlocked = false;
  #fromDisk: OutputRecord[] = [];
  #place: Place | undefined;

  /** @param offset of the first byte it gets; what is kept no more is passed over */
  constructor(journal: Journal, client: SessionClient, offset: number) {
    this.#journal = journal;
    this.client = client;
    this.#offset = offset;
  }

  /** offset of the next byte it gets */
  get offset(): number {
    return this.#offset;
  }

  /** milliseconds since it took anything; 0 if there is nothing for it to take */
  get stalledMs(): number {
    return this.#offset < this.#journal.end ? performance.now() - this.#progressMs : 0;
  }

  /** Begins to deliver. */
  start(): void {
    this.#started = true;
    this.wake();
  }

  stop(): void {
    this.#stopped = true;
    this.#fromDisk = [];
  }

  /** The client can take more. */
  wake(): void {
    this.#isBlocked = false;
    this.pump();
  }

  /** There may be more to deliver. */
  pump(): void {
    if (this.#isWorking || !this.#started) return;
    this.#isWorking = true;
    while (!this.#stopped && !this.#isBlocked) {
      const record = this.#fromDisk.shift() ?? this.#journal.recent(this.#offset);
      if (record !== undefined) this.#deliver(record);
      else if (this.#offset < this.#journal.end) return void this.#readDisk();
      else if (this.#journal.exitCode !== undefined) this.#end(this.#journal.exitCode);
      else break;
    }
    this.#isWorking = false;
  }

  #deliver(record: OutputRecord): void {
    const data = record.offset < this.#offset ? record.data.subarray(this.#offset - record.offset) : record.data;
    this.#offset = record.offset + record.data.length;
    this.#progressMs = performance.now();
    this.#isBlocked = !this.client.output(record.stream, data);
    this.onProgress();
  }

  #end(exitCode: number): void {
    this.#stopped = true;
    this.client.ended(exitCode);
  }

  /** Goes on with `pump`, which does not touch anything meanwhile. */
  async #readDisk(): Promise<void> {
    try {
      const { records, place } = await this.#journal.read(this.#offset, this.#place);
      this.#place = place;
      this.#fromDisk = [...records];
      if (records.length === 0) this.#skipDropped();
    } catch {
      this.#giveUp("the output of this session cannot be read");
    }
    this.#isWorking = false;
    this.pump();
  }

  /** Only the output of a session that has ended may be dropped under a reader. */
  #skipDropped(): void {
    if (this.#journal.start > this.#offset) this.#offset = this.#journal.start;
    else this.#giveUp("the output of this session is gone");
  }

  #giveUp(reason: string): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.client.cut(reason);
  }
}
