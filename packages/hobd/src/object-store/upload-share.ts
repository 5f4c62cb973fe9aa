import { MAX_OBJECT_BYTES } from "@hob/storage";

export interface UploadLimits {
  /** objects of all sprites at once, and bytes of them */
  requests: number;
  bytes: number;
  /** objects of one sprite */
  requestsOfOne: number;
}

const LIMITS: UploadLimits = { requests: 8, bytes: 4 * MAX_OBJECT_BYTES, requestsOfOne: 2 };

/** What a request costs beside its bytes: many small ones are work as well. */
const REQUEST_COST_BYTES = 64 * 1024;

interface Waiting {
  readonly bytes: number;
  admit(): void;
}

/** One sprite that uploads or wants to. */
interface Uploading {
  /** in order of arrival */
  readonly waiting: Set<Waiting>;
  requests: number;
  /** virtual time at which its next request begins: bytes */
  begin: number;
}

/**
 * Shares what the host writes to the store among its sprites: by bytes, whoever asks how often. Whoever is not admitted
 * waits; nothing is refused. It is start-time fair queuing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996): a
 * sprite's next request begins, in virtual time, where its last one has ended, and the earliest goes first. One that has not uploaded
 * for a while begins now: it has saved up nothing.
 */
export class UploadShare {
  readonly #limits: UploadLimits;
  readonly #sprites = new Map<string, Uploading>();
  #requests = 0;
  #bytes = 0;
  #now = 0;

  constructor(limits: UploadLimits = LIMITS) {
    this.#limits = limits;
  }

  /**
   * Waits until the sprite may upload so many bytes. They count until the answer is disposed of.
   * @throws the reason of the signal
   */
  async take(sprite: string, bytes: number, signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    const counted = Math.min(bytes, this.#limits.bytes);
    const uploading = this.#sprites.get(sprite) ?? { waiting: new Set<Waiting>(), requests: 0, begin: 0 };
    this.#sprites.set(sprite, uploading);
    const admitted = Promise.withResolvers<void>();
    const waiting: Waiting = { bytes: counted, admit: admitted.resolve };
    const giveUp = () => {
      if (uploading.waiting.delete(waiting)) admitted.reject(signal.reason);
      this.#forgetIdle(sprite, uploading);
      this.#admit();
    };
    if (uploading.waiting.size === 0) uploading.begin = Math.max(uploading.begin, this.#now);
    uploading.waiting.add(waiting);
    signal.addEventListener("abort", giveUp, { once: true });
    this.#admit();
    try {
      await admitted.promise;
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
    return this.#permit(sprite, uploading, counted);
  }

  #permit(sprite: string, uploading: Uploading, bytes: number): Disposable {
    let isOver = false;
    return {
      [Symbol.dispose]: () => {
        if (isOver) return;
        isOver = true;
        this.#requests--;
        this.#bytes -= bytes;
        uploading.requests--;
        this.#forgetIdle(sprite, uploading);
        this.#admit();
      },
    };
  }

  /** The first that does not fit holds up the others: a large one would never find room otherwise. */
  #admit(): void {
    for (;;) {
      const next = this.#next();
      if (next === undefined || this.#requests >= this.#limits.requests) return;
      const [waiting] = next.waiting;
      if (waiting === undefined || this.#bytes + waiting.bytes > this.#limits.bytes) return;
      next.waiting.delete(waiting);
      next.requests++;
      this.#requests++;
      this.#bytes += waiting.bytes;
      this.#now = Math.max(this.#now, next.begin);
      next.begin += waiting.bytes + REQUEST_COST_BYTES;
      waiting.admit();
    }
  }

  #next(): Uploading | undefined {
    let next: Uploading | undefined;
    for (const uploading of this.#sprites.values()) {
      if (uploading.waiting.size === 0 || uploading.requests >= this.#limits.requestsOfOne) continue;
      if (next === undefined || uploading.begin < next.begin) next = uploading;
    }
    return next;
  }

  /** One whose last request has not ended in virtual time is remembered until then: it cannot begin anew by pausing. */
  #forgetIdle(sprite: string, uploading: Uploading): void {
    if (this.#requests === 0 && this.#bytes === 0 && [...this.#sprites.values()].every(({ waiting }) => waiting.size === 0)) {
      this.#sprites.clear();
      this.#now = 0;
    } else if (uploading.waiting.size === 0 && uploading.requests === 0 && uploading.begin <= this.#now) {
      this.#sprites.delete(sprite);
    }
  }
}
