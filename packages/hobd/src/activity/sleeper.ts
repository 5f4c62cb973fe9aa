import { setTimeout as pause } from "node:timers/promises";
import { type ActivityHolder, HobError, type SpriteActivity, type SpriteStatus } from "@hob/protocol";
import { identityOf } from "../api/present.ts";
import type { SpriteContext } from "../api/sprite-context.ts";
import type { SpriteRecord } from "../registry/registry.ts";
import type { SleepOutcome, SleepTerms, StorageGap } from "../runtime/sprite-runtime.ts";

const SECOND_MS = 1_000;
/** Between looks at the running sprites; less where sprites sleep sooner than a few seconds. */
const TICK_MS = SECOND_MS;
/** A sprite that its pilot keeps awake is asked again after this long, or after its idle time if that is shorter. */
const ASK_AGAIN_MS = 5 * SECOND_MS;
/** Between looks at the sleeping ones; less where their memory is kept for less than two minutes. */
const CHILL_INTERVAL_MS = 60 * SECOND_MS;
/** A sprite may be put to sleep to make room for another one when nobody has used it for this long. */
const ROOM_IDLE_MS = 5 * SECOND_MS;
/** One that was woken for the daemon's own purposes sleeps after this, unless somebody uses it. */
const VISIT_IDLE_MS = SECOND_MS;
/** What was changed may take this long to be brought into the object store before a sleep; nobody waits for it but the sleep. */
const SETTLE_MS = 10 * SECOND_MS;
/** The same when somebody waits for the sprite's place. */
const SETTLE_FOR_ROOM_MS = SECOND_MS;
/** Who asks for sleep has often just used the sprite: what is about to end may end first. */
const ENDING_MS = 2 * SECOND_MS;
const ENDING_POLL_MS = 50;
/** Holders named in a message. */
const HOLDERS_TOLD = 3;
/** Of what comes from a guest. */
const ERROR_CHARACTERS_TOLD = 500;

export interface SleepSettings {
  /** seconds without use after which a sprite sleeps; 0: never */
  idleTimeoutSeconds: number;
  /** seconds after which a sleeping sprite's memory is dropped; 0: never */
  coldAfterSeconds: number;
  /** whether room on the disk is needed more than the memory of sleeping sprites */
  diskIsShort: () => Promise<boolean>;
}

/** What is known of a sprite that runs. Times are Unix milliseconds. */
interface Running {
  /** since when it runs, as far as this daemon has seen it */
  since: number;
  /** not looked at before */
  nextLookAt: number;
  /** it is being put to sleep */
  trying: boolean;
}

/**
 * Puts sprites to sleep that nobody uses, and drops the memory of those that nobody has woken for long. Sleeping
 * sprites cost it nothing: it keeps a list of those that run, and looks at the others once a minute.
 *
 * What keeps a sprite awake is known in two places: the front door (`SpriteUses`), and the sprite's pilot, which is
 * asked only when the front door knows of nobody.
 */
export class Sleeper implements Disposable {
  readonly #context: SpriteContext;
  readonly #settings: SleepSettings;
  readonly #running = new Map<string, Running>();
  readonly #lastWakes = new Map<string, { at: number; reason: string }>();
  /** sprites that the daemon wakes for itself */
  readonly #visits = new Set<string>();
  readonly #timers: NodeJS.Timeout[] = [];
  #makingRoom: Promise<unknown> = Promise.resolve();

  constructor(context: SpriteContext, settings: SleepSettings) {
    this.#context = context;
    this.#settings = settings;
  }

  /** Begins to look; to be called when the sprites are recovered. */
  async start(): Promise<void> {
    const { sprites, runtime, log } = this.#context;
    for (const id of await sprites.listReadyIds()) if (runtime.status(id) === "running") this.#noteRunning(id, "found running");
    const every = (ms: number, what: string, work: () => Promise<void>) => {
      this.#timers.push(setInterval(() => void work().catch((error) => log.error({ err: error }, what)), ms).unref());
    };
    const idleMs = this.#settings.idleTimeoutSeconds * SECOND_MS;
    every(idleMs > 0 ? Math.min(TICK_MS, idleMs / 2) : TICK_MS, "looking for idle sprites failed", () => this.#look());
    const coldMs = this.#settings.coldAfterSeconds * SECOND_MS;
    every(coldMs > 0 ? Math.min(CHILL_INTERVAL_MS, coldMs / 2) : CHILL_INTERVAL_MS, "dropping old memory failed", () => this.#chillOld());
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers) clearInterval(timer);
  }

  /** To be called at each change of a sprite's status. */
  noteStatus(id: string, status: SpriteStatus): void {
    if (status !== "running") {
      this.#running.delete(id);
      this.#visits.delete(id);
      return;
    }
    const [first] = this.#context.uses.holders(id);
    this.#noteRunning(id, first === undefined ? "start" : first.label);
  }

  /** To be called when a sprite is gone. */
  forget(id: string): void {
    this.#running.delete(id);
    this.#lastWakes.delete(id);
    this.#visits.delete(id);
    this.#context.uses.forget(id);
  }

  /** To be called before the daemon wakes a sprite for itself: as long as nobody else uses it, it sleeps as soon as it is let go. */
  noteVisit(id: string): void {
    this.#visits.add(id);
  }

  /** To be called when a sprite's own idle time was changed. */
  lookSoon(id: string): void {
    const running = this.#running.get(id);
    if (running !== undefined) running.nextLookAt = 0;
  }

  /**
   * Puts a sprite to sleep because somebody asked for it.
   * @throws HobError `conflict` with what holds it, unless forced
   */
  async sleepNow(record: SpriteRecord, force: boolean): Promise<SpriteStatus> {
    const deadline = performance.now() + ENDING_MS;
    let outcome = await this.#sleep(record, { idleMs: 0, force });
    while (outcome.kind === "awake" && performance.now() < deadline) {
      await pause(ENDING_POLL_MS);
      outcome = await this.#sleep(record, { idleMs: 0, force });
    }
    if (outcome.kind === "asleep") return this.#context.runtime.status(record.id);
    const holders = [...this.#context.uses.holders(record.id), ...(outcome.activity?.holders ?? [])];
    throw new HobError("conflict", `put sprite ${record.name} to sleep: ${namesOf(holders)}`, {
      hint: "end that, or repeat with force: open connections are cut, what runs goes on after the wake",
      details: { holders: holders.length },
    });
  }

  /** Why a sprite is awake, and until when. Does not wake it. */
  async explain(record: SpriteRecord): Promise<SpriteActivity> {
    const { runtime, uses, urlOf, log } = this.#context;
    const { id } = record;
    const inside = await runtime.activity(identityOf(record, urlOf)).catch((error: unknown) => {
      log.warn({ sprite: id, err: error }, "the pilot does not say what it does");
      return undefined;
    });
    const status = runtime.status(id);
    const holders = [...uses.holders(id), ...(inside?.holders ?? [])].sort((a, b) => a.since - b.since);
    const idleSince = status === "running" && holders.length === 0 ? this.#idleSince(id, inside?.idleMs) : undefined;
    const idleMs = this.#idleMs(record);
    const { coldAfterSeconds } = this.#settings;
    const lastWake = this.#lastWakes.get(id);
    return {
      sprite_name: record.name,
      status,
      holders: holders.map(({ kind, label, since }) => ({ kind, label, since: timeOf(since) })),
      idle_timeout_seconds: idleMs / SECOND_MS,
      idle_since: idleSince === undefined ? null : timeOf(idleSince),
      sleeps_at: idleSince === undefined || idleMs === 0 ? null : timeOf(idleSince + idleMs),
      cold_at:
        status === "warm" && coldAfterSeconds > 0
          ? timeOf((record.lastWarmingAt ?? record.updatedAt) + coldAfterSeconds * SECOND_MS)
          : null,
      behind: status === "running" ? null : presentGap((await runtime.rest(id)).behind),
      last_wake: lastWake === undefined ? null : { at: timeOf(lastWake.at), reason: lastWake.reason },
    };
  }

  /** Puts the sprite to sleep that nobody has used for longest. One after the other: each gives one place. @returns false when all are in use */
  makeRoom(): Promise<boolean> {
    const made = this.#makingRoom.then(() => this.#sleepIdlest());
    this.#makingRoom = made.catch(() => {});
    return made;
  }

  async #sleepIdlest(): Promise<boolean> {
    const { uses, sprites, now, log } = this.#context;
    const candidates = [...this.#running.keys()]
      .filter((id) => !uses.inUse(id) && (this.#isVisit(id) || now() - this.#idleSince(id) >= ROOM_IDLE_MS))
      .sort((a, b) => this.#idleSince(a) - this.#idleSince(b))
      .sort((a, b) => Number(this.#isVisit(b)) - Number(this.#isVisit(a)));
    for (const id of candidates) {
      const record = await sprites.findById(id);
      const idleMs = record?.state === "ready" ? this.#timeoutMs(record) : 0;
      if (record === undefined || idleMs === 0) continue;
      try {
        const terms = { idleMs: Math.min(idleMs, ROOM_IDLE_MS), settleMs: SETTLE_FOR_ROOM_MS };
        if ((await this.#sleep(record, terms)).kind === "asleep") return true;
      } catch (error) {
        log.warn({ sprite: id, err: error }, "putting it to sleep to make room failed");
      }
    }
    return false;
  }

  async #look(): Promise<void> {
    const { uses, now } = this.#context;
    const due = [...this.#running].filter(([id, { nextLookAt, trying }]) => !trying && nextLookAt <= now() && !uses.inUse(id));
    await Promise.all(due.map(([id, running]) => this.#lookAt(id, running)));
  }

  async #lookAt(id: string, running: Running): Promise<void> {
    const { sprites, now, log } = this.#context;
    running.trying = true;
    try {
      const record = await sprites.findById(id);
      // One that is being created or destroyed is somebody else's business.
      if (record?.state !== "ready") return;
      const idleMs = this.#timeoutMs(record);
      const leftMs = this.#idleSince(id) + idleMs - now();
      if (idleMs === 0) running.nextLookAt = Number.POSITIVE_INFINITY;
      else if (leftMs > 0) running.nextLookAt = now() + leftMs;
      else running.nextLookAt = now() + waitAfter(await this.#sleep(record, { idleMs }), idleMs);
    } catch (error) {
      running.nextLookAt = now() + 6 * ASK_AGAIN_MS;
      log.warn({ sprite: id, err: error }, "putting it to sleep failed; it runs on");
    } finally {
      running.trying = false;
    }
  }

  async #sleep(record: SpriteRecord, terms: Pick<SleepTerms, "idleMs"> & Partial<SleepTerms>): Promise<SleepOutcome> {
    const { runtime, uses, urlOf, log } = this.#context;
    const { id } = record;
    const before = uses.lastUsedAt(id);
    // Also a use that has ended meanwhile counts.
    const inUse = () => uses.inUse(id) || uses.lastUsedAt(id) !== before;
    const startedAt = performance.now();
    const wasRunning = runtime.status(id) === "running";
    const outcome = await runtime.sleep(identityOf(record, urlOf), { force: false, settleMs: SETTLE_MS, inUse, ...terms });
    const ms = Math.round(performance.now() - startedAt);
    if (wasRunning && outcome.kind === "asleep") log.info({ sprite: id, name: record.name, ms }, "sprite sleeps");
    return outcome;
  }

  /** Those that have slept longest go first; all that are due, and as many more as the disk needs. */
  async #chillOld(): Promise<void> {
    const { coldAfterSeconds, diskIsShort } = this.#settings;
    const { runtime, now, log } = this.#context;
    for (const { id, name, lastWarmingAt } of await this.#warmSprites()) {
      const isDue = coldAfterSeconds > 0 && now() - (lastWarmingAt ?? 0) >= coldAfterSeconds * SECOND_MS;
      if (!isDue && !(await diskIsShort())) return;
      if (await runtime.chill(id)) log.info({ sprite: id, name, isDue }, "the memory of a sleeping sprite is dropped");
    }
  }

  async #warmSprites(): Promise<SpriteRecord[]> {
    const { sprites, runtime } = this.#context;
    const ids = (await sprites.listReadyIds()).filter((id) => runtime.status(id) === "warm");
    const records = await Promise.all(ids.map((id) => sprites.findById(id)));
    return records.filter((record) => record !== undefined).sort((a, b) => (a.lastWarmingAt ?? 0) - (b.lastWarmingAt ?? 0));
  }

  #noteRunning(id: string, reason: string): void {
    const at = this.#context.now();
    this.#running.set(id, { since: at, nextLookAt: 0, trying: false });
    this.#lastWakes.set(id, { at, reason });
  }

  #isVisit(id: string): boolean {
    const since = this.#running.get(id)?.since ?? 0;
    return this.#visits.has(id) && this.#context.uses.lastUsedAt(id) < since;
  }

  /** After which the sprite sleeps this time; 0: not by itself. */
  #timeoutMs(record: SpriteRecord): number {
    return this.#isVisit(record.id) ? VISIT_IDLE_MS : this.#idleMs(record);
  }

  #idleMs({ idleTimeoutSeconds }: SpriteRecord): number {
    return (idleTimeoutSeconds ?? this.#settings.idleTimeoutSeconds) * SECOND_MS;
  }

  /** Unix milliseconds since when nobody has used a running sprite. @param insideIdleMs what its pilot said of that */
  #idleSince(id: string, insideIdleMs = Number.POSITIVE_INFINITY): number {
    const { uses, now } = this.#context;
    return Math.max(uses.lastUsedAt(id), this.#running.get(id)?.since ?? 0, now() - insideIdleMs);
  }
}

/** How long to wait before the next try. */
function waitAfter(outcome: SleepOutcome, idleMs: number): number {
  if (outcome.kind === "asleep" || outcome.activity === undefined) return 0;
  const { holders, idleMs: idleFor } = outcome.activity;
  return holders.length > 0 ? Math.min(idleMs, ASK_AGAIN_MS) : Math.max(0, idleMs - idleFor);
}

function namesOf(holders: readonly ActivityHolder[]): string {
  if (holders.length === 0) return "somebody used it just now";
  const named = holders.slice(0, HOLDERS_TOLD).map(({ kind, label }) => `${kind} ${label}`);
  const more = holders.length - named.length;
  return `it is in use by ${named.join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

function presentGap(gap: StorageGap | undefined): SpriteActivity["behind"] {
  if (gap === undefined) return null;
  return { since: timeOf(gap.since), checkpoints: gap.checkpoints, error: gap.error?.slice(0, ERROR_CHARACTERS_TOLD) ?? null };
}

const timeOf = (unixMs: number): string => new Date(unixMs).toISOString();
