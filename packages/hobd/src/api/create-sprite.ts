import { createHash, randomBytes, randomUUID } from "node:crypto";
import { type CreateSpriteRequest, HobError, MACHINE_LIMITS, NO_POLICIES, type SpritePolicies } from "@hob/protocol";
import { IDEMPOTENCY_KEPT_MS, type IdempotencyRecord, type SpriteRecord } from "../registry/registry.ts";
import { nameTaken } from "../registry/sqlite-sprites.ts";
import { AsyncLimit } from "./async-limit.ts";
import type { Reservation } from "./capacity.ts";
import { isOfClientGone } from "./client-gone.ts";
import { identityOf } from "./present.ts";
import type { SpriteContext } from "./sprite-context.ts";

/** VMs made at once: each copies a template and starts a VMM, which wants a core of its own. */
const CONCURRENT_CREATES = 2;

/** Milliseconds a create may wait for room and for its turn: the SDKs give up after 120 s. */
const CREATE_WAIT_MS = 110_000;

export interface CreateOptions {
  idempotencyKey?: string | undefined;
  /** aborted when the client has gone; ends only the wait for room, never a create that has begun */
  signal?: AbortSignal | undefined;
  /** whose rate of creates counts */
  tokenId: string;
  /** Makes what the object store is to have of the sprite before its VM starts; default: nothing, it begins empty. */
  storage?: (record: SpriteRecord) => Promise<Brought>;
  /** those that it begins with; default: none */
  policies?: SpritePolicies;
}

/** What came with the storage of a sprite, and takes the place of what was asked for. */
export interface Brought {
  policies?: SpritePolicies | undefined;
  storageGb?: number;
}

interface Keyed {
  requestHash: string;
  promise: Promise<SpriteRecord>;
}

/**
 * Makes sprites. Whatever happens to the client or to the VM, a create ends in one of two states: a `ready` row whose
 * VM answers, or nothing at all.
 */
export class SpriteCreator {
  readonly #context: SpriteContext;
  readonly #turns: AsyncLimit;
  readonly #waitMs: number;
  readonly #byKey = new Map<string, Keyed>();
  readonly #byName = new Map<string, Promise<unknown>>();

  constructor(context: SpriteContext, { concurrent = CONCURRENT_CREATES, waitMs = CREATE_WAIT_MS } = {}) {
    this.#context = context;
    this.#turns = new AsyncLimit(concurrent);
    this.#waitMs = waitMs;
  }

  /** @throws HobError `name_taken` | `sprite_creation_rate_limited` | `concurrent_sprite_limit_exceeded` | `idempotency_mismatch` | `conflict` | `timeout` | what the runtime throws */
  create(request: CreateSpriteRequest, options: CreateOptions): Promise<SpriteRecord> {
    const { idempotencyKey, tokenId } = options;
    if (idempotencyKey === undefined) return this.#create(request, options);
    const requestHash = hashRequest(request);
    const underWay = this.#byKey.get(idempotencyKey);
    if (underWay !== undefined) {
      if (underWay.requestHash !== requestHash) return Promise.reject(keyMismatch(request.name));
      return underWay.promise;
    }
    const promise = this.#createOnce(request, tokenId, idempotencyKey, requestHash).finally(() => this.#byKey.delete(idempotencyKey));
    this.#byKey.set(idempotencyKey, { requestHash, promise });
    return promise;
  }

  /** @throws HobError `name_taken` */
  async requireFree(name: string): Promise<void> {
    if ((await this.#context.sprites.findByName(name)) !== undefined) throw nameTaken(name);
  }

  /** Resolves when the create of this name that is under way, if any, has ended in whatever way. */
  async settled(name: string): Promise<void> {
    await this.#byName.get(name)?.catch(() => {});
  }

  /** Resolves when no create is under way. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#byName.values());
  }

  async #createOnce(request: CreateSpriteRequest, tokenId: string, key: string, requestHash: string): Promise<SpriteRecord> {
    const { sprites, now } = this.#context;
    const used = await sprites.findIdempotency(key);
    if (used === undefined || used.createdAt <= now() - IDEMPOTENCY_KEPT_MS) {
      // Several requests may wait for this one: none of them going away may end it, so it has no signal.
      return this.#create(request, { tokenId }, { key, requestHash, createdAt: now() });
    }
    if (used.requestHash !== requestHash) throw keyMismatch(request.name);
    const made = await sprites.findById(used.spriteId);
    if (made?.state === "ready") return made;
    throw new HobError("conflict", `create sprite ${request.name}: the sprite that this Idempotency-Key made was destroyed since`, {
      hint: "use a new key to make a new sprite",
    });
  }

  async #create(
    request: CreateSpriteRequest,
    { tokenId, signal, storage, policies = NO_POLICIES }: Omit<CreateOptions, "idempotencyKey">,
    key?: Omit<IdempotencyRecord, "spriteId">,
  ): Promise<SpriteRecord> {
    const { sprites, now } = this.#context;
    const deadline = Date.now() + this.#waitMs;
    await this.requireFree(request.name);
    const record: SpriteRecord = { ...newRecord(request, now()), policies };
    const counted = this.#context.createRate.take(tokenId);
    using _ = await this.#place(request, record.id, deadline, signal).catch((error: unknown) => {
      counted.undo();
      throw error;
    });
    await sprites.insert(record, key === undefined ? undefined : { ...key, spriteId: record.id });
    const making = this.#make(record, deadline, storage);
    this.#byName.set(record.name, making);
    try {
      return await making;
    } finally {
      this.#byName.delete(record.name);
    }
  }

  #place(request: CreateSpriteRequest, id: string, deadline: number, signal: AbortSignal | undefined): Promise<Reservation> {
    const { gate } = this.#context;
    return request.wait_for_capacity === true ? gate.reserveWhenFree(id, deadline, signal) : gate.reserve(id);
  }

  async #make(reserved: SpriteRecord, deadline: number, storage: CreateOptions["storage"]): Promise<SpriteRecord> {
    const { sprites, runtime, catalogue, urlOf, now, events, log } = this.#context;
    const startedAt = performance.now();
    let record = reserved;
    let turnBy = deadline;
    try {
      if (storage !== undefined) {
        const { policies = record.policies, storageGb = record.machine.storageGb } = await storage(record);
        record = { ...record, policies, machine: { ...record.machine, storageGb } };
        await sprites.begin(record);
        // A large import takes longer than anybody waits for a turn: it must not be for nothing because others are being made.
        turnBy = Math.max(deadline, Date.now() + this.#waitMs);
      }
      const described = catalogue.describe(record);
      described.catch(() => {});
      await this.#turns.run(`create sprite ${record.name}`, turnBy, () => runtime.create(identityOf(record, urlOf), record.machine));
      // Whoever hears of the sprite finds it again, also when this host is lost.
      await described;
      const at = now();
      await sprites.move(record.id, "creating", "ready", at);
      const status = runtime.status(record.id);
      await sprites.noteStatus(record.id, status, at);
      log.info({ sprite: record.id, name: record.name, ms: Math.round(performance.now() - startedAt) }, "sprite created");
      events.emit({ type: "created", id: record.id, name: record.name, status, at });
      return (await sprites.findById(record.id)) ?? record;
    } catch (error) {
      const sprite = { sprite: record.id, name: record.name };
      if (isOfClientGone(error)) log.info(sprite, "create given up: the client has gone");
      else if (error instanceof HobError && error.status < 500) log.info({ ...sprite, reason: error.message }, "create refused");
      else log.error({ ...sprite, err: error }, "create failed");
      await this.#rollBack(record);
      throw error;
    }
  }

  /** Leaves nothing of a failed create. What cannot be removed now is removed by housekeeping or by the next start. */
  async #rollBack({ id }: SpriteRecord): Promise<void> {
    const { sprites, runtime, catalogue, log, now } = this.#context;
    try {
      // The VM must go even when a full disk keeps the row from changing.
      const [abandoned, destroyed] = await Promise.allSettled([sprites.abandon(id, now()), runtime.destroy(id)]);
      for (const step of [abandoned, destroyed]) if (step.status === "rejected") throw step.reason;
      await catalogue.remove(id);
      await sprites.remove(id);
    } catch (error) {
      log.error({ sprite: id, err: error }, "rolling back a failed create is left for later");
    }
  }
}

function newRecord(request: CreateSpriteRequest, at: number): SpriteRecord {
  const { cpus, ram_mb, storage_gb } = request.config ?? {};
  const { auth, private_access } = request.url_settings ?? {};
  return {
    id: `sprite-${randomUUID()}`,
    name: request.name,
    state: "creating",
    machine: {
      cpus: cpus ?? MACHINE_LIMITS.cpus.default,
      ramMb: ram_mb ?? MACHINE_LIMITS.ramMb.default,
      storageGb: storage_gb ?? MACHINE_LIMITS.storageGb.default,
    },
    labels: request.labels ?? [],
    urlSettings: { auth: auth ?? "sprite", ...(private_access === undefined ? {} : { private_access }) },
    environment: request.environment ?? {},
    machineId: randomBytes(16).toString("hex"),
    pilotToken: randomBytes(32).toString("hex"),
    policies: NO_POLICIES,
    createdAt: at,
    updatedAt: at,
    lastRunningAt: null,
    lastWarmingAt: null,
    idleTimeoutSeconds: request.idle_timeout_seconds ?? null,
  };
}

/** SHA-256 of what was asked for; spacing and the order of keys in the body do not matter. */
function hashRequest(request: CreateSpriteRequest): string {
  const sorted = JSON.stringify(request, (_, value: unknown) =>
    value !== null && typeof value === "object" && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
  return createHash("sha256").update(sorted).digest("hex");
}

const keyMismatch = (name: string): HobError =>
  new HobError("idempotency_mismatch", `create sprite ${name}: this Idempotency-Key came with another request before`, {
    hint: "use a new key for each new request",
  });
