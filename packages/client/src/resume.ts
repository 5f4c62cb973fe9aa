import { setTimeout as sleep } from "node:timers/promises";
import { HobError } from "@hob/protocol/errors.ts";
import type { WebSocket } from "ws";
import type { Endpoint } from "./http.ts";
import { dial } from "./web-socket.ts";

export interface ResumeOptions {
  /** bound on all tries after one break; default 60 s */
  timeoutMs?: number;
  /** where the daemon is now; default: where it was */
  locate?: () => Endpoint;
  /** told when the first try to come back has failed */
  onWaiting?: (reason: HobError) => void;
  /** told when the connection is there again, if `onWaiting` was told */
  onBack?: () => void;
  /** told when output was dropped before this client could get it */
  onGap?: (bytes: number) => void;
}

const TIMEOUT_MS = 60_000;
const FIRST_DELAY_MS = 100;
const DELAY_MS_MAX = 4_000;
/** Bound on one try: a daemon that hangs must not use up the time in which the next one starts. */
const TRY_MS = 15_000;
/** A connection that breaks sooner belongs to the same outage: pauses go on growing, and its time goes on running out. */
const STABLE_MS = 10_000;

/** The time from a break of a connection until another one has held for a while. */
export class Outage {
  readonly #endpoint: Endpoint;
  readonly #options: ResumeOptions;
  readonly #signal: AbortSignal;
  readonly #deadlineMs: number;
  #delayMs = FIRST_DELAY_MS;
  #isTold = false;
  #endedMs: number | undefined;

  /** @param signal aborted when nobody wants to come back any more */
  constructor(endpoint: Endpoint, options: ResumeOptions, signal: AbortSignal) {
    this.#endpoint = endpoint;
    this.#options = options;
    this.#signal = signal;
    this.#deadlineMs = performance.now() + (options.timeoutMs ?? TIMEOUT_MS);
  }

  /** Whether the next break is a new outage. */
  get isOver(): boolean {
    return this.#endedMs !== undefined && performance.now() - this.#endedMs > STABLE_MS;
  }

  /** The session goes on. */
  end(): void {
    this.#endedMs = performance.now();
    if (this.#isTold) this.#options.onBack?.();
    this.#isTold = false;
  }

  /** Tries until a connection is there. @throws what the last try said when the time is over, or when it refuses for good */
  async connect(path: string, query: URLSearchParams): Promise<WebSocket> {
    this.#endedMs = undefined;
    for (;;) {
      // Clients that lost the same daemon do not all come back at the same moment.
      await sleep(this.#delayMs * (0.75 + Math.random() / 2), undefined, { signal: this.#signal });
      this.#delayMs = Math.min(2 * this.#delayMs, DELAY_MS_MAX);
      const leftMs = this.#deadlineMs - performance.now();
      try {
        return await dial(this.#locate(), path, query, Math.min(TRY_MS, Math.max(1_000, leftMs)));
      } catch (thrown) {
        if (!(thrown instanceof HobError) || !isRepeatable(thrown) || leftMs < this.#delayMs) throw thrown;
        if (!this.#isTold) this.#options.onWaiting?.(thrown);
        this.#isTold = true;
      }
    }
  }

  #locate(): Endpoint {
    try {
      return this.#options.locate?.() ?? this.#endpoint;
    } catch {
      // What says where the daemon is may be missing while it restarts.
      return this.#endpoint;
    }
  }
}

/** Coming back to a session has no effect that could be had twice. */
const isRepeatable = ({ retryable, code }: HobError): boolean => retryable || code === "outcome_unknown";
