import { CURRENT } from "@hob/protocol";
import type { HeadDocument } from "@hob/storage";
import { identityOf } from "../api/present.ts";
import type { SpriteContext } from "../api/sprite-context.ts";
import type { SpriteStorage } from "../object-store/sprite-storage.ts";
import type { SpriteRecord } from "../registry/registry.ts";
import type { Rest } from "../runtime/sprite-runtime.ts";
import { statesRead } from "./history-request.ts";
import { type ReaderLease, ReaderPool } from "./reader-pool.ts";

/** Readers at a time: each is a VM, and one serves all who look at its sprite. */
const READERS_MAX = 2;
/** Milliseconds that a reader is kept which nobody uses; less where sprites sleep sooner. */
const IDLE_MS_MAX = 60_000;

export interface HistoryReadersOptions {
  /** after which a sprite sleeps, 0: never */
  idleTimeoutSeconds: number;
}

/**
 * Who answers when history is read: the sprite itself while it runs; while it sleeps a reader, as long as its answer cannot differ
 * from that of the sprite. In doubt the sprite is woken.
 */
export class HistoryReaders implements AsyncDisposable {
  readonly #context: SpriteContext;
  readonly #storage: Pick<SpriteStorage, "head" | "owner" | "organization">;
  readonly #pool: ReaderPool;

  constructor(context: SpriteContext, storage: Pick<SpriteStorage, "head" | "owner" | "organization">, options: HistoryReadersOptions) {
    this.#context = context;
    this.#storage = storage;
    const { gate, log, runtime, events } = context;
    const idleMs = options.idleTimeoutSeconds * 1_000;
    this.#pool = new ReaderPool({
      max: READERS_MAX,
      idleMs: idleMs > 0 ? Math.min(idleMs, IDLE_MS_MAX) : IDLE_MS_MAX,
      reserve: (name) => gate.reserve(name),
      log,
    });
    runtime.onStatusChange((id, status) => status === "running" && this.#pool.retire(id));
    events.subscribe(({ type, id }) => type === "deleted" && void this.#pool.drop(id));
  }

  /** A reader for this request; undefined when the sprite itself is to be asked. */
  async lend(record: SpriteRecord, method: string | undefined, rest: string): Promise<ReaderLease | undefined> {
    const states = statesRead(method, rest);
    const { runtime, log } = this.#context;
    if (states === undefined || runtime.status(record.id) === "running") return undefined;
    try {
      const [head, local] = await Promise.all([this.#storage.head(record.id), runtime.rest(record.id)]);
      if (head === undefined || head.root === null || !isAllStored(states, head, local, this.#storage.owner)) return undefined;
      if (runtime.status(record.id) === "running") return undefined;
      const { root } = head;
      return await this.#pool.lend({ spriteId: record.id, root, states, start: () => this.#start(record, root) });
    } catch (err) {
      log.warn({ sprite: record.id, err }, "no reader for the sprite's history; the sprite is woken");
      return undefined;
    }
  }

  /** Gives the place of a reader that nobody uses to somebody else. @returns false when there is none */
  makeRoom(): Promise<boolean> {
    return this.#pool.closeIdle();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool[Symbol.asyncDispose]();
  }

  #start(record: SpriteRecord, root: string): ReturnType<SpriteContext["runtime"]["startReader"]> {
    const { runtime, urlOf } = this.#context;
    const history = { organization: this.#storage.organization, spriteId: record.id, root };
    return runtime.startReader(identityOf(record, urlOf), record.machine, history);
  }
}

/**
 * Whether the store says of these states what the sprite would. With a volume on this machine: if nothing changed between the
 * head and the sleep. Without one the store is all there is of the sprite, but its owner may go on from the newest state.
 */
export function isAllStored(states: ReadonlySet<string>, head: HeadDocument, local: Rest, host: string): boolean {
  if (local.hasCopy && local.storedAs !== head.writeId) return false;
  if (!local.hasCopy && head.owner !== host && states.has(CURRENT)) return false;
  return [...states].every((id) => id === CURRENT || head.checkpoints.some((checkpoint) => checkpoint.id === id));
}
