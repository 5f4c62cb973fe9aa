import type { SpriteStatus } from "@hob/protocol";
import type { SpriteContext } from "../api/sprite-context.ts";
import type { PilotRequester } from "../front-door/pilot-locator.ts";
import type { SpriteStorage } from "../object-store/sprite-storage.ts";
import type { SpriteRecord } from "../registry/registry.ts";
import { withSignal } from "../runtime/bounded.ts";
import type { Sleeper } from "./sleeper.ts";

const SECOND_MS = 1_000;
/** Between looks at whether somebody is due. */
const LOOK_MS = SECOND_MS;
/** A sprite is woken no sooner than this after it fell asleep; doubled with each time that it was woken in vain. */
const WAKE_AGAIN_MS: Backoff = { first: 10 * SECOND_MS, last: 3_600 * SECOND_MS };
/** Between questions to a store that does not answer. */
const ASK_AGAIN_MS: Backoff = { first: 5 * SECOND_MS, last: 300 * SECOND_MS };
/** For one answer of the store. */
const ANSWER_MS = 30 * SECOND_MS;
/** Between looks for a free place. */
const ROOM_MS = 30 * SECOND_MS;
/** For all that one sprite has. What is left then goes on after its next wake. */
const UPLOAD_MS = 1_800 * SECOND_MS;

interface Backoff {
  first: number;
  last: number;
}

export interface CatchUpParts {
  context: SpriteContext;
  storage: Pick<SpriteStorage, "head" | "owns">;
  pilot: PilotRequester;
  sleeper: Pick<Sleeper, "noteVisit">;
}

/** A sprite that sleeps while the store lacks something of it. Times are Unix milliseconds. */
interface Waiting {
  /** how often it was woken in vain */
  times: number;
  /** not woken before */
  dueAt: number;
}

/**
 * Wakes sprites that fell asleep before all that they have was in the object store, so that they bring it there, and lets them sleep
 * again: one at a time, while the store answers, in places that nobody else needs. What is missing is noted with each sprite's save, so a
 * daemon that starts knows of all of them.
 */
export class CatchUp implements AsyncDisposable {
  readonly #parts: CatchUpParts;
  readonly #waiting = new Map<string, Waiting>();
  #way = new AbortController();
  #isStopped = false;
  #timer: NodeJS.Timeout | undefined;
  #work: Promise<void> = Promise.resolve();
  #isAtWork = false;
  /** how often in a row the store has not answered, and until when it is left alone */
  #silences = 0;
  #quietUntil = 0;

  constructor(parts: CatchUpParts) {
    this.#parts = parts;
  }

  /** Begins to look; to be called when the sprites are recovered. */
  async start(): Promise<void> {
    const { sprites, runtime } = this.#parts.context;
    for (const id of await sprites.listReadyIds()) await this.noteStatus(id, runtime.status(id));
    this.#timer = setInterval(() => this.look(), LOOK_MS).unref();
  }

  /** To be called at each change of a sprite's status. */
  async noteStatus(id: string, status: SpriteStatus): Promise<void> {
    const { runtime, log, now } = this.#parts.context;
    const before = this.#waiting.get(id);
    if (status === "running") {
      // It brings everything there by itself, as long as it runs.
      if (before !== undefined) before.dueAt = Number.POSITIVE_INFINITY;
      return;
    }
    const { behind } = await runtime.rest(id);
    if (runtime.status(id) === "running") return;
    if (behind === undefined) return void this.#waiting.delete(id);
    // Its memory was dropped, or the like: it has not been awake since.
    if (before !== undefined && before.dueAt !== Number.POSITIVE_INFINITY) return;
    const times = before?.times ?? 0;
    this.#waiting.set(id, { times, dueAt: now() + backedOff(WAKE_AGAIN_MS, times) });
    const { checkpoints, error } = behind;
    log.warn({ sprite: id, lagMs: now() - behind.since, checkpoints, error }, "a sprite sleeps of which the object store lacks something");
  }

  /** To be called when a sprite is gone. */
  forget(id: string): void {
    this.#waiting.delete(id);
  }

  /** Begins with the one that has waited for longest, if one is due and none is under way. */
  look(): void {
    const now = this.#parts.context.now();
    if (this.#isAtWork || this.#isStopped || now < this.#quietUntil) return;
    const [next] = [...this.#waiting].filter(([, { dueAt }]) => dueAt <= now).sort((a, b) => a[1].dueAt - b[1].dueAt);
    if (next === undefined) return;
    this.#isAtWork = true;
    this.#way = new AbortController();
    this.#work = this.#tend(...next)
      .catch((err: unknown) =>
        this.#parts.context.log.warn({ sprite: next[0], err }, "a sprite that sleeps was not brought into the store"),
      )
      .finally(() => {
        this.#isAtWork = false;
      });
  }

  /** Ends what is under way, so that the place of its sprite is free for somebody who waits for one. */
  async giveWay(): Promise<void> {
    this.#way.abort();
    await this.#work;
  }

  /** Resolves when nothing is under way any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#isStopped = true;
    await this.giveWay();
  }

  async #tend(id: string, waiting: Waiting): Promise<void> {
    const { sprites, runtime, now } = this.#parts.context;
    const record = await sprites.findById(id);
    if (record?.state !== "ready" || runtime.status(id) === "running") return;
    const isOwned = await this.#askStore(id);
    if (isOwned === undefined) return;
    // A wake would take it from the host that has it now.
    if (!isOwned) return void this.#waiting.delete(id);
    waiting.times++;
    waiting.dueAt = now() + backedOff(WAKE_AGAIN_MS, waiting.times);
    if (!(await this.#bringAll(record))) waiting.dueAt = now() + ROOM_MS;
  }

  /** Whether the sprite is still this host's; undefined: the store does not answer. */
  async #askStore(id: string): Promise<boolean | undefined> {
    const { context, storage } = this.#parts;
    try {
      const signal = AbortSignal.any([this.#way.signal, AbortSignal.timeout(ANSWER_MS)]);
      const [head, { epoch }] = await Promise.all([withSignal(storage.head(id), signal), context.runtime.rest(id)]);
      this.#silences = 0;
      return storage.owns(head, epoch);
    } catch (err) {
      this.#quietUntil = context.now() + backedOff(ASK_AGAIN_MS, this.#silences++);
      context.log.info({ err }, "the object store does not answer; sprites of which it lacks something sleep on");
      return undefined;
    }
  }

  /** @returns false when there is no place that nobody else needs */
  async #bringAll(record: SpriteRecord): Promise<boolean> {
    const { context, sleeper, pilot } = this.#parts;
    const { gate, uses, log } = context;
    const { id, name } = record;
    using place = await gate.reserveIfFree(id);
    if (place === undefined) {
      log.debug({ sprite: id, name }, "no place is free to bring a sprite into the object store");
      return false;
    }
    this.#way.signal.throwIfAborted();
    // It does not count as used: its users have not come back.
    using _use = uses.begin(id, { kind: "upload", label: "what the object store lacks", holds: true, counts: false });
    sleeper.noteVisit(id);
    log.info({ sprite: id, name }, "a sprite is woken to bring what it has into the object store");
    const signal = AbortSignal.any([this.#way.signal, AbortSignal.timeout(UPLOAD_MS)]);
    const { status, refusal } = await pilot(record, `/v1/sprites/${name}/sync`, signal, "POST");
    if (status === 200) log.info({ sprite: id, name }, "the object store has all of the sprite");
    else log.warn({ sprite: id, name, status, reason: refusal?.message }, "the sprite did not get all that it has into the object store");
    return true;
  }
}

const backedOff = ({ first, last }: Backoff, times: number): number => Math.min(first * 2 ** times, last);
