import { DatabaseSync, type StatementSync } from "node:sqlite";
import { HobError } from "@hob/protocol";
import { MIGRATIONS, type Migration, planMigration, type SchemaVersion } from "./migrations.ts";

/** Primary result codes, https://www.sqlite.org/rescode.html; an extended code holds its primary in the low byte. */
const RESULT = { readOnly: 8, ioError: 10, corrupt: 11, full: 13, cantOpen: 14, notADatabase: 26, busy: 5 } as const;

/** SQLITE_CONSTRAINT_UNIQUE */
const CONSTRAINT_UNIQUE = 2067;

/** Milliseconds a statement waits for another process (`hob token`, while the daemon runs) to end its transaction. */
const BUSY_TIMEOUT_MS = 5_000;

export type SqlValue = string | number | null;
export type SqlRow = Record<string, SqlValue>;

/**
 * The one place that knows the SQLite driver: opening with the settings the registry relies on, prepared statements,
 * transactions, and the translation of SQLite's result codes to HobErrors.
 */
export class SqliteDatabase {
  readonly #path: string;
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  /** Opens or creates the file and brings its schema up to date. @throws HobError `registry_unusable` | `no_space` | `home_unusable` */
  constructor(path: string, migrations: readonly Migration[] = MIGRATIONS) {
    this.#path = path;
    this.#database = translate(path, "open", () => new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS }));
    try {
      this.#configure();
      this.#migrate(migrations);
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  /** Every row of a query. */
  all(sql: string, ...values: SqlValue[]): SqlRow[] {
    return translate(this.#path, "read", () => this.#prepare(sql).all(...values) as SqlRow[]);
  }

  /** The first row of a query. */
  get(sql: string, ...values: SqlValue[]): SqlRow | undefined {
    return translate(this.#path, "read", () => this.#prepare(sql).get(...values) as SqlRow | undefined);
  }

  /** Runs a statement; how many rows it changed. */
  run(sql: string, ...values: SqlValue[]): number {
    return translate(this.#path, "write", () => Number(this.#prepare(sql).run(...values).changes));
  }

  /** Runs `body` in one transaction that holds the write lock from its start, so that a read in it cannot go stale. */
  transaction<T>(body: () => T): T {
    this.#execute("BEGIN IMMEDIATE");
    try {
      const result = body();
      this.#execute("COMMIT");
      return result;
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw error;
    }
  }

  close(): void {
    if (this.#database.isOpen) this.#database.close();
  }

  #configure(): void {
    // FULL: in WAL mode NORMAL may lose the last commits on power loss; an answered create must not be lost.
    this.#execute("PRAGMA journal_mode = WAL");
    this.#execute("PRAGMA synchronous = FULL");
    this.#execute("PRAGMA journal_size_limit = 16777216");
  }

  #migrate(known: readonly Migration[]): void {
    this.transaction(() => {
      this.#execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL, floor INTEGER NOT NULL) STRICT");
      const row = this.get("SELECT version, floor FROM schema_version") as SchemaVersion | undefined;
      const plan = planMigration(row, known);
      if (plan.kind === "refuse") {
        throw new HobError(
          "registry_unusable",
          `open ${this.#path}: written by a newer Hob (schema ${row?.version}, this one knows ${plan.newest})`,
          {
            hint: "start the newer version of Hob, or another state directory",
          },
        );
      }
      for (const migration of plan.migrations) this.#execute(migration.sql);
      const last = plan.migrations.at(-1);
      if (last === undefined) return;
      this.#execute("DELETE FROM schema_version");
      this.run("INSERT INTO schema_version (version, floor) VALUES (?, ?)", last.version, last.floor);
    });
  }

  #execute(sql: string): void {
    translate(this.#path, "write", () => this.#database.exec(sql));
  }

  #prepare(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#database.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }
}

/** True for the failure of a statement that would have broken a UNIQUE index. */
export const isUniqueViolation = (thrown: unknown): boolean =>
  thrown instanceof HobError && (thrown.cause as { errcode?: number } | undefined)?.errcode === CONSTRAINT_UNIQUE;

function translate<T>(path: string, operation: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    if (error instanceof HobError) throw error;
    throw sqliteError(path, operation, error as Error & { errcode?: number });
  }
}

function sqliteError(path: string, operation: string, error: Error & { errcode?: number }): HobError {
  const message = `${operation} ${path}: ${error.message}`;
  switch ((error.errcode ?? 0) & 0xff) {
    case RESULT.full:
      return new HobError("no_space", message, { hint: "free space on the disk that holds the state directory", cause: error });
    case RESULT.readOnly:
    case RESULT.cantOpen:
      return new HobError("home_unusable", message, { hint: "check owner and permissions of the state directory", cause: error });
    case RESULT.corrupt:
    case RESULT.notADatabase:
      return new HobError("registry_unusable", message, { hint: "move the file away, or restore it from a backup", cause: error });
    case RESULT.busy:
      return new HobError("timeout", message, { hint: "another process holds the registry; try again", cause: error });
    default:
      return new HobError("internal", message, { cause: error });
  }
}
