import type { Agent } from "node:http";
import type { PilotEndpoint } from "../runtime/sprite-runtime.ts";
import { type Answer, LostAttempt, type Message, Try } from "./try.ts";

/** A pilot that refuses a repetition answers so; a route may as well. */
const CONFLICT = 409;

/** How often a request that shows no sign of arrival is sent once more, at most. */
const REPETITIONS = 3;

export interface DeliveryOptions {
  message: Message;
  endpoint: PilotEndpoint;
  /** for the first try: a connection that was kept may do */
  agent: Agent | false;
  /** whether the request may happen more than once */
  isSafe: boolean;
  /** aborted when the client has gone */
  signal: AbortSignal;
  /** milliseconds without a sign of arrival until the request is sent once more */
  repeatAfterMs: number;
}

/**
 * Brings one request to a pilot, and its answer back.
 *
 * What lies before a pilot accepts connections for it, and loses one now and then without a word, most of all when a VM has
 * just woken. So a request without a sign of arrival is sent once more on another connection, under the same name, while
 * the first stays: a pilot takes the name once, whichever comes first, so a slow answer is as good as a fast one. A
 * conflict may be the refusal of a name that another of them brought, also of the first one's, and counts only when nothing
 * else answers any more.
 */
export class Delivery {
  readonly #options: DeliveryOptions;
  readonly #result = Promise.withResolvers<Answer>();
  readonly #tries = new Set<Try>();
  #begun = 0;
  #mayBeTaken = false;
  #refusal: Answer | undefined;
  #timer: NodeJS.Timeout | undefined;

  private constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  /** @throws LostAttempt when no try was answered */
  static async run(options: DeliveryOptions): Promise<Answer> {
    const delivery = new Delivery(options);
    const onAbort = () => delivery.#giveUp(new LostAttempt(false, true, new Error("the client has gone")));
    options.signal.addEventListener("abort", onAbort, { once: true });
    if (options.signal.aborted) onAbort();
    else delivery.#begin(options.agent);
    try {
      return await delivery.#result.promise;
    } finally {
      options.signal.removeEventListener("abort", onAbort);
    }
  }

  #begin(agent: Agent | false): void {
    const isFirst = this.#begun++ === 0;
    const { message, endpoint } = this.#options;
    const one: Try = new Try(message, endpoint, agent, {
      onContinue: () => {
        this.#keepOnly(one);
        one.sendBody();
      },
      onAnswer: (answer) => this.#answered(one, answer, isFirst),
      onLost: (lost) => this.#lost(one, lost),
    });
    this.#tries.add(one);
    this.#repeatLater();
  }

  #repeatLater(): void {
    clearTimeout(this.#timer);
    if (this.#begun > REPETITIONS || this.#refusal !== undefined) return;
    this.#timer = setTimeout(() => this.#begin(false), this.#options.repeatAfterMs * this.#begun);
  }

  #answered(one: Try, answer: Answer, isFirst: boolean): void {
    if (answer.response.statusCode === CONFLICT) {
      this.#refused(one, answer, isFirst);
      return;
    }
    this.#keepOnly(one);
    this.#result.resolve(answer);
  }

  #refused(one: Try, answer: Answer, isFirst: boolean): void {
    this.#tries.delete(one);
    clearTimeout(this.#timer);
    // What was sent first has mostly arrived first: if one of them is what the request itself met, it is that.
    const [kept, other] = isFirst || this.#refusal === undefined ? [answer, this.#refusal] : [this.#refusal, answer];
    this.#refusal = kept;
    discard(other);
    if (this.#tries.size === 0)
      this.#endRefused(kept, new LostAttempt(true, true, new Error("it arrived before, on a connection that was lost")));
  }

  #lost(one: Try, lost: LostAttempt): void {
    this.#tries.delete(one);
    clearTimeout(this.#timer);
    this.#mayBeTaken ||= lost.mayBeTaken;
    if (this.#tries.size > 0) this.#repeatLater();
    else if (this.#refusal === undefined) this.#result.reject(new LostAttempt(lost.repeatable, this.#mayBeTaken, lost));
    else this.#endRefused(doubtful(this.#refusal), lost);
  }

  /** What may happen more than once goes again under another name, which nobody has brought before. */
  #endRefused(refusal: Answer, lost: LostAttempt): void {
    if (this.#options.isSafe && this.#begun > 1) {
      discard(refusal);
      this.#result.reject(lost);
    } else this.#result.resolve(refusal);
  }

  /** This is the one: the others are given up, and no more are begun. */
  #keepOnly(one: Try): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#begun = Number.POSITIVE_INFINITY;
    for (const other of this.#tries) if (other !== one) other.cancel();
    this.#tries.clear();
    this.#tries.add(one);
    discard(this.#refusal);
    this.#refusal = undefined;
  }

  #giveUp(lost: LostAttempt): void {
    clearTimeout(this.#timer);
    this.#begun = Number.POSITIVE_INFINITY;
    for (const one of this.#tries) one.cancel();
    discard(this.#refusal);
    this.#result.reject(lost);
  }
}

const doubtful = (answer: Answer): Answer => (answer.kind === "response" ? { ...answer, isDoubtful: true } : answer);

const discard = (answer: Answer | undefined): void => void answer?.response.destroy();
