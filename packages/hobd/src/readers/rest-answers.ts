import { type Checkpoint, CURRENT, checkpointNotFound, HobError, type StorageStatus, selectCheckpoints } from "@hob/protocol";
import type { HeadDocument } from "@hob/storage";
import type { SpriteContext } from "../api/sprite-context.ts";
import type { SpriteStorage } from "../object-store/sprite-storage.ts";
import type { SpriteRecord } from "../registry/registry.ts";
import type { Rest } from "../runtime/sprite-runtime.ts";
import { parseRestRequest, type RestRequest } from "./rest-request.ts";

/** A store that has not answered by then counts as away: the question is only whose the sprite is. */
const STORE_MS = 5_000;

/** What is known of a sprite that sleeps on this machine. */
interface Known extends Pick<Rest, "storedAs"> {
  said: NonNullable<Rest["said"]>;
  /** undefined: the object store does not answer */
  head: HeadDocument | undefined;
}

/**
 * Answers for sprites that sleep, with what each said just before: its checkpoints, and how far the object store was behind. Nobody
 * changes either while it sleeps, so it would say the same now, as long as this machine has the sprite.
 */
export class RestAnswers {
  readonly #context: Pick<SpriteContext, "runtime" | "now" | "log">;
  readonly #storage: Pick<SpriteStorage, "head" | "owns">;

  constructor(context: Pick<SpriteContext, "runtime" | "now" | "log">, storage: Pick<SpriteStorage, "head" | "owns">) {
    this.#context = context;
    this.#storage = storage;
  }

  /**
   * The body of the answer; undefined when the sprite itself is to be asked.
   * @param rest path below the sprite and query, as sent
   * @throws HobError `not_found` | `invalid_request`, as the sprite would
   */
  async answer({ id }: Pick<SpriteRecord, "id">, method: string | undefined, rest: string): Promise<object | undefined> {
    if (this.#context.runtime.status(id) === "running") return undefined;
    const request = parseRestRequest(method, rest);
    const known = request === undefined ? undefined : await this.#known(id);
    return request === undefined || known === undefined ? undefined : this.#answer(request, known);
  }

  /** Undefined when it is not known what the sprite has, or when it is another host's by now. */
  async #known(id: string): Promise<Known | undefined> {
    const { runtime, log } = this.#context;
    const { hasCopy, epoch, said, storedAs } = await runtime.rest(id);
    if (!hasCopy || said === undefined) return undefined;
    try {
      const head = await inTime(this.#storage.head(id));
      if (!this.#storage.owns(head, epoch) || runtime.status(id) === "running") return undefined;
      return { said, storedAs, head };
    } catch (err) {
      // A sprite that runs says what it has without the store as well. One that sleeps could not even be woken.
      log.warn({ sprite: id, err }, "the object store does not say whose the sprite is; what it said last is told");
      return { said, storedAs, head: undefined };
    }
  }

  #answer(request: RestRequest, known: Known): object | undefined {
    switch (request.kind) {
      case "list":
        return selectCheckpoints(this.#checkpoints(known), request.filter);
      case "checkpoint": {
        const found = this.#checkpoints(known).find(({ id }) => id === request.id);
        if (found === undefined) throw checkpointNotFound(request.id);
        return found;
      }
      case "storage":
        return this.#storageOf(known);
      case "sync":
        return known.head !== undefined && known.head.writeId === known.storedAs ? this.#storageOf(known) : undefined;
    }
  }

  /** One that was on its way into the store when the sprite fell asleep may have arrived. */
  #checkpoints({ said, head }: Known): Checkpoint[] {
    const now = new Date(this.#context.now()).toISOString();
    const stored = new Set(head?.checkpoints.map(({ id }) => id));
    return said.checkpoints.map((one) => {
      if (one.id === CURRENT) return { ...one, create_time: now };
      return one.durable === false && stored.has(one.id) ? { ...one, durable: true } : one;
    });
  }

  /** What waits in a sprite that sleeps waits on. */
  #storageOf({ said: { at, storage } }: Known): StorageStatus {
    const lag = storage.durable_lag_seconds;
    const asleepSeconds = Math.max(0, Math.round((this.#context.now() - at) / 100) / 10);
    return { ...storage, uploading: false, durable_lag_seconds: lag === 0 ? 0 : lag + asleepSeconds };
  }
}

/** @throws HobError `store_unavailable` */
async function inTime<T>(answer: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const error = new HobError("store_unavailable", `the object store has not answered in ${STORE_MS} ms`);
  const timer = setTimeout(() => late.reject(error), STORE_MS);
  try {
    return await Promise.race([answer, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
