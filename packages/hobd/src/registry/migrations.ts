/**
 * Schema of the registry. Each entry takes a database from version N-1 to N; entries are never edited once released.
 *
 * `floor` is the oldest schema version whose code may still open a database of version N: a Hob that knows only
 * versions below the floor refuses to open it, one at or above the floor opens it unchanged. So a step back to the
 * release before is possible as long as a migration only adds.
 */
export interface Migration {
  version: number;
  floor: number;
  sql: string;
}

export const MIGRATIONS: readonly Migration[] = [
  {
    version: 1,
    floor: 1,
    sql: `
      CREATE TABLE sprites (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'destroying')),
        cpus INTEGER NOT NULL,
        ram_mb INTEGER NOT NULL,
        storage_gb INTEGER NOT NULL,
        labels TEXT NOT NULL,
        url_settings TEXT NOT NULL,
        environment TEXT NOT NULL,
        machine_id TEXT NOT NULL,
        pilot_token TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        last_running_at INTEGER,
        last_warming_at INTEGER
      ) STRICT, WITHOUT ROWID;
      -- A name is free again as soon as its sprite is being destroyed.
      CREATE UNIQUE INDEX sprites_name ON sprites (name) WHERE state <> 'destroying';

      CREATE TABLE idempotency_keys (
        key TEXT PRIMARY KEY,
        request_hash TEXT NOT NULL,
        sprite_id TEXT NOT NULL,
        created_at INTEGER NOT NULL
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
      CREATE INDEX idempotency_keys_sprite ON idempotency_keys (sprite_id);

      CREATE TABLE tokens (
        id TEXT PRIMARY KEY,
        description TEXT NOT NULL,
        secret_hash TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        last_used_at INTEGER,
        revoked_at INTEGER
      ) STRICT, WITHOUT ROWID;
    `,
  },
  {
    version: 2,
    floor: 1,
    sql: "ALTER TABLE sprites ADD COLUMN idle_timeout_seconds INTEGER",
  },
  {
    // The floor rises with it: a Hob that does not know policies would start sprites without them.
    version: 3,
    floor: 3,
    sql: `ALTER TABLE sprites ADD COLUMN policies TEXT NOT NULL DEFAULT '{"revision":0,"network":{"rules":[]},"privileges":{},"resources":{}}'`,
  },
];

export interface SchemaVersion {
  version: number;
  floor: number;
}

export type MigrationPlan = { kind: "apply"; migrations: readonly Migration[] } | { kind: "refuse"; newest: number };

/** What to do with a database at `current` (undefined: an empty one), given the migrations this code knows. */
export function planMigration(current: SchemaVersion | undefined, known: readonly Migration[] = MIGRATIONS): MigrationPlan {
  const newest = known.at(-1)?.version ?? 0;
  if (current !== undefined && current.floor > newest) return { kind: "refuse", newest };
  return { kind: "apply", migrations: known.filter(({ version }) => version > (current?.version ?? 0)) };
}
