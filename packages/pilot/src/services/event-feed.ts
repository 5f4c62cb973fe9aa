import type { ServiceEvent } from "@hob/protocol";

/** Bytes of output that wait for one reader; a service is not slowed down by who looks at it. */
const WAITING_BYTES_MAX = 512 * 1024;

/** Events on their way to one client. What a slow client cannot take is skipped, and it is told so. */
export class EventFeed implements AsyncIterable<ServiceEvent> {
  #events: ServiceEvent[] = [];
  #bytes = 0;
  #skippedLines = 0;
  #ended = false;
  #wake: (() => void) | undefined;

  readonly push = (event: ServiceEvent): void => {
    if (this.#ended) return;
    const bytes = "data" in event ? event.data.length : 0;
    const isOutput = event.type === "stdout" || event.type === "stderr";
    if (isOutput && this.#bytes + bytes > WAITING_BYTES_MAX) {
      this.#skippedLines += event.data.split("\n").length - 1;
      return;
    }
    if (this.#skippedLines > 0) this.#admitSkipping(event.timestamp);
    this.#events.push(event);
    this.#bytes += bytes;
    this.#wake?.();
  };

  /** Nothing more comes; what waits is still delivered. */
  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ServiceEvent> {
    for (;;) {
      const events = this.#events;
      this.#events = [];
      this.#bytes = 0;
      yield* events;
      if (this.#events.length > 0) continue;
      if (this.#ended) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }

  #admitSkipping(timestamp: number): void {
    this.#events.push({ type: "error", data: `hob: ${this.#skippedLines} lines were skipped here; the log file has them`, timestamp });
    this.#skippedLines = 0;
  }
}
