import assert from "node:assert/strict";
import { HobError, type SpriteStatus } from "@hob/protocol";
import {
  canMove,
  type IdempotencyRecord,
  type SpritePage,
  type SpritePoliciesPatch,
  type SpriteRecord,
  type SpriteRegistry,
  type SpriteSettingsPatch,
  type SpriteState,
} from "./registry.ts";
import { isUniqueViolation, type SqliteDatabase, type SqlRow, type SqlValue } from "./sqlite-database.ts";

const COLUMNS = [
  "id",
  "name",
  "state",
  "cpus",
  "ram_mb",
  "storage_gb",
  "labels",
  "url_settings",
  "environment",
  "machine_id",
  "pilot_token",
  "policies",
  "created_at",
  "updated_at",
  "last_running_at",
  "last_warming_at",
  "idle_timeout_seconds",
] as const;
const SELECT = `SELECT ${COLUMNS.join(", ")} FROM sprites`;
const INSERT = `INSERT INTO sprites (${COLUMNS.join(", ")}) VALUES (${COLUMNS.map(() => "?").join(", ")})`;

/** Sorts after every character that a name may hold: the end of the range of names with a prefix. */
const AFTER_NAMES = "\u{10ffff}";

/** Sprites and idempotency keys in SQLite; the contract is that of SpriteRegistry. */
export class SqliteSpriteRegistry implements SpriteRegistry {
  readonly #database: SqliteDatabase;

  constructor(database: SqliteDatabase) {
    this.#database = database;
  }

  async insert(sprite: SpriteRecord, idempotency?: IdempotencyRecord): Promise<void> {
    assert.equal(sprite.state, "creating", "a sprite begins in creating");
    try {
      this.#database.transaction(() => {
        this.#database.run(INSERT, ...toRow(sprite));
        if (idempotency !== undefined) this.#insertKey(idempotency);
      });
    } catch (error) {
      if (!isUniqueViolation(error)) throw error;
      throw nameTaken(sprite.name);
    }
  }

  async findByName(name: string): Promise<SpriteRecord | undefined> {
    return optional(this.#database.get(`${SELECT} WHERE name = ? AND state <> 'destroying'`, name));
  }

  async findById(id: string): Promise<SpriteRecord | undefined> {
    return optional(this.#database.get(`${SELECT} WHERE id = ?`, id));
  }

  async list({ prefix, after, limit }: SpritePage): Promise<SpriteRecord[]> {
    // `state <> 'destroying'` repeats the condition of the partial index, so that it serves the order and the range.
    return this.#database
      .all(
        `${SELECT} WHERE state <> 'destroying' AND state = 'ready' AND name > ? AND name >= ? AND name < ? ORDER BY name LIMIT ?`,
        after,
        prefix,
        prefix + AFTER_NAMES,
        limit,
      )
      .map(toRecord);
  }

  async listByState(state: SpriteState): Promise<SpriteRecord[]> {
    return this.#database.all(`${SELECT} WHERE state = ? ORDER BY id`, state).map(toRecord);
  }

  async listReadyIds(): Promise<string[]> {
    return this.#database.all("SELECT id FROM sprites WHERE state = 'ready'").map((row) => String(row.id));
  }

  async move(id: string, from: SpriteState, to: SpriteState, at: number): Promise<boolean> {
    assert(canMove(from, to), `a sprite cannot move from ${from} to ${to}`);
    return this.#database.run("UPDATE sprites SET state = ?, updated_at = ? WHERE id = ? AND state = ?", to, at, id, from) === 1;
  }

  async remove(id: string): Promise<void> {
    this.#database.run("DELETE FROM sprites WHERE id = ?", id);
  }

  async abandon(id: string, at: number): Promise<void> {
    this.#database.transaction(() => {
      const moved = this.#database.run(
        "UPDATE sprites SET state = 'destroying', updated_at = ? WHERE id = ? AND state = 'creating'",
        at,
        id,
      );
      if (moved === 1) this.#database.run("DELETE FROM idempotency_keys WHERE sprite_id = ?", id);
    });
  }

  async updateSettings(name: string, patch: SpriteSettingsPatch, at: number): Promise<SpriteRecord | undefined> {
    return this.#database.transaction(() => {
      const row = optional(this.#database.get(`${SELECT} WHERE name = ? AND state <> 'destroying' AND state = 'ready'`, name));
      if (row === undefined) return undefined;
      const next: SpriteRecord = {
        ...row,
        labels: patch.labels ?? row.labels,
        urlSettings: { ...row.urlSettings, ...patch.urlSettings },
        idleTimeoutSeconds: patch.idleTimeoutSeconds === undefined ? row.idleTimeoutSeconds : patch.idleTimeoutSeconds,
        updatedAt: at,
      };
      this.#database.run(
        "UPDATE sprites SET labels = ?, url_settings = ?, idle_timeout_seconds = ?, updated_at = ? WHERE id = ?",
        JSON.stringify(next.labels),
        JSON.stringify(next.urlSettings),
        next.idleTimeoutSeconds,
        at,
        row.id,
      );
      return next;
    });
  }

  async begin({ id, policies, machine }: Pick<SpriteRecord, "id" | "policies" | "machine">): Promise<void> {
    const query = "UPDATE sprites SET policies = ?, storage_gb = ? WHERE id = ? AND state = 'creating'";
    if (this.#database.run(query, JSON.stringify(policies), machine.storageGb, id) !== 1)
      throw new Error(`sprite ${id} is not being created`);
  }

  async updatePolicies(name: string, patch: SpritePoliciesPatch, at: number): Promise<SpriteRecord | undefined> {
    return this.#database.transaction(() => {
      const row = optional(this.#database.get(`${SELECT} WHERE name = ? AND state <> 'destroying' AND state = 'ready'`, name));
      if (row === undefined) return undefined;
      const policies = { ...row.policies, ...patch, revision: row.policies.revision + 1 };
      this.#database.run("UPDATE sprites SET policies = ?, updated_at = ? WHERE id = ?", JSON.stringify(policies), at, row.id);
      return { ...row, policies, updatedAt: at };
    });
  }

  async noteStatus(id: string, status: SpriteStatus, at: number): Promise<void> {
    if (status === "running") this.#database.run("UPDATE sprites SET last_running_at = ? WHERE id = ?", at, id);
    if (status === "warm") this.#database.run("UPDATE sprites SET last_warming_at = ? WHERE id = ?", at, id);
  }

  async findIdempotency(key: string): Promise<IdempotencyRecord | undefined> {
    const row = this.#database.get("SELECT key, request_hash, sprite_id, created_at FROM idempotency_keys WHERE key = ?", key);
    if (row === undefined) return undefined;
    return {
      key: String(row.key),
      requestHash: String(row.request_hash),
      spriteId: String(row.sprite_id),
      createdAt: Number(row.created_at),
    };
  }

  async purgeIdempotency(before: number): Promise<number> {
    return this.#database.run("DELETE FROM idempotency_keys WHERE created_at < ?", before);
  }

  #insertKey({ key, requestHash, spriteId, createdAt }: IdempotencyRecord): void {
    // A key past its time may still be there; it is free to be used anew.
    this.#database.run(
      "INSERT OR REPLACE INTO idempotency_keys (key, request_hash, sprite_id, created_at) VALUES (?, ?, ?, ?)",
      key,
      requestHash,
      spriteId,
      createdAt,
    );
  }
}

export const nameTaken = (name: string): HobError =>
  new HobError("name_taken", `create sprite ${name}: a sprite of this name exists`, {
    hint: "choose another name, or destroy that sprite",
  });

const optional = (row: SqlRow | undefined): SpriteRecord | undefined => (row === undefined ? undefined : toRecord(row));

const toRow = (sprite: SpriteRecord): SqlValue[] => [
  sprite.id,
  sprite.name,
  sprite.state,
  sprite.machine.cpus,
  sprite.machine.ramMb,
  sprite.machine.storageGb,
  JSON.stringify(sprite.labels),
  JSON.stringify(sprite.urlSettings),
  JSON.stringify(sprite.environment),
  sprite.machineId,
  sprite.pilotToken,
  JSON.stringify(sprite.policies),
  sprite.createdAt,
  sprite.updatedAt,
  sprite.lastRunningAt,
  sprite.lastWarmingAt,
  sprite.idleTimeoutSeconds,
];

function toRecord(row: SqlRow): SpriteRecord {
  return {
    id: String(row.id),
    name: String(row.name),
    state: row.state as SpriteState,
    machine: { cpus: Number(row.cpus), ramMb: Number(row.ram_mb), storageGb: Number(row.storage_gb) },
    labels: JSON.parse(String(row.labels)),
    urlSettings: JSON.parse(String(row.url_settings)),
    environment: JSON.parse(String(row.environment)),
    machineId: String(row.machine_id),
    pilotToken: String(row.pilot_token),
    policies: JSON.parse(String(row.policies)),
    createdAt: Number(row.created_at),
    updatedAt: Number(row.updated_at),
    lastRunningAt: row.last_running_at as number | null,
    lastWarmingAt: row.last_warming_at as number | null,
    idleTimeoutSeconds: row.idle_timeout_seconds as number | null,
  };
}
