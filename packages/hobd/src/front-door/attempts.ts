import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { HobError } from "@hob/protocol";
import type { SpriteRecord } from "../registry/registry.ts";
import type { SpriteEndpoint } from "../runtime/sprite-runtime.ts";
import type { PilotLocator } from "./pilot-locator.ts";
import { LostAttempt } from "./try.ts";

/** Between two attempts; the second comes at once, since a kept connection may just have been closed. */
const PAUSE_MS = { first: 50, last: 500 } as const;

export interface AttemptsOptions {
  record: SpriteRecord;
  /** whether the request may happen more than once */
  isSafe: boolean;
  /** how long it waits for a pilot from the first loss on, milliseconds; or how often it is sent at most */
  bound: { patienceMs: number } | { count: number };
  /** aborted when the client has gone */
  signal: AbortSignal;
}

/** The attempts to send one request: whether there is another one, under which name, and to whom. */
export class Attempts {
  readonly #options: AttemptsOptions;
  readonly #name = randomUUID();
  #lost = 0;
  #deadline = Number.POSITIVE_INFINITY;
  /** names the boot of the VM that is asked */
  #askedIn: string | undefined;
  /** and of the one that may have taken the request */
  #takenIn: string | undefined;

  constructor(options: AttemptsOptions) {
    this.#options = options;
  }

  get isFirst(): boolean {
    return this.#lost === 0;
  }

  /** What may happen more than once has another name each time. */
  get name(): string {
    return this.#options.isSafe ? randomUUID() : this.#name;
  }

  /**
   * No VM but the one that may have taken the request is asked.
   *
   * @throws HobError `outcome_unknown` | what the locator throws: of a sprite that was destroyed, or that another host has now, what the
   *   request did here counts for nothing
   */
  async locate(locate: PilotLocator): Promise<SpriteEndpoint> {
    try {
      const endpoint = await locate(this.#options.record, this.#takenIn);
      this.#askedIn = endpoint.bootId;
      return endpoint;
    } catch (error) {
      throw this.#takenIn === undefined || isGone(error) ? error : unknown(this.#options.record, error);
    }
  }

  /**
   * A conflict that may only be that of a repetition is not told when the sprite was lost with the request itself.
   *
   * @throws HobError `ownership_lost`, `not_found`
   */
  async requireThere(locate: PilotLocator, conflict: { destroy: () => void }): Promise<void> {
    try {
      await locate(this.#options.record, this.#askedIn);
    } catch (error) {
      if (!isGone(error)) return;
      conflict.destroy();
      throw error;
    }
  }

  /**
   * Resolves when it is time for the next one.
   * @throws what was thrown, when it is no lost attempt | HobError `pilot_unreachable`, `outcome_unknown` when there is no next one
   */
  async next(thrown: unknown): Promise<void> {
    if (!(thrown instanceof LostAttempt)) throw thrown;
    const { record, isSafe, bound, signal } = this.#options;
    if (this.#lost++ === 0 && "patienceMs" in bound) this.#deadline = performance.now() + bound.patienceMs;
    if (thrown.mayBeTaken && !isSafe) this.#takenIn = this.#askedIn;
    const isLast = "count" in bound ? this.#lost >= bound.count : performance.now() > this.#deadline;
    if (!thrown.repeatable || signal.aborted || isLast) {
      throw this.#takenIn === undefined ? unreachable(record, thrown) : unknown(record, thrown);
    }
    if (this.#lost > 1) await pause(this.#lost, signal);
  }
}

const isGone = (error: unknown): boolean => error instanceof HobError && (error.code === "ownership_lost" || error.code === "not_found");

const pause = (lost: number, signal: AbortSignal): Promise<void> =>
  sleep(Math.min(PAUSE_MS.last, PAUSE_MS.first * 2 ** (lost - 2)), undefined, { signal }).catch(() => {});

const unreachable = (record: SpriteRecord, cause: Error): HobError =>
  new HobError("pilot_unreachable", `reach the pilot of sprite ${record.name}: no answer`, {
    hint: "try again; if it stays so, restart the sprite",
    cause,
  });

/** No `pilot_unreachable`: whoever repeats that unseen would have it happen twice. */
const unknown = (record: SpriteRecord, cause: unknown): HobError =>
  new HobError("outcome_unknown", `ask sprite ${record.name}: it was lost with the request, which may have had its effect or not`, {
    hint: "look whether it had its effect, then repeat it",
    cause,
  });
