import type { TokenRecord, TokenRegistry } from "./registry.ts";
import type { SqliteDatabase, SqlRow } from "./sqlite-database.ts";

const COLUMNS = "id, description, secret_hash, created_at, last_used_at, revoked_at";

/** Tokens in SQLite; the contract is that of TokenRegistry. */
export class SqliteTokenRegistry implements TokenRegistry {
  readonly #database: SqliteDatabase;

  constructor(database: SqliteDatabase) {
    this.#database = database;
  }

  async insertToken(token: TokenRecord): Promise<void> {
    this.#database.run(
      `INSERT INTO tokens (${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)`,
      token.id,
      token.description,
      token.secretHash,
      token.createdAt,
      token.lastUsedAt,
      token.revokedAt,
    );
  }

  async findToken(id: string): Promise<TokenRecord | undefined> {
    const row = this.#database.get(`SELECT ${COLUMNS} FROM tokens WHERE id = ?`, id);
    return row === undefined ? undefined : toToken(row);
  }

  async listTokens(): Promise<TokenRecord[]> {
    return this.#database.all(`SELECT ${COLUMNS} FROM tokens ORDER BY created_at, id`).map(toToken);
  }

  async revokeToken(id: string, at: number): Promise<boolean> {
    return this.#database.run("UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", at, id) === 1;
  }

  async noteTokenUse(lastUsed: ReadonlyMap<string, number>): Promise<void> {
    if (lastUsed.size === 0) return;
    this.#database.transaction(() => {
      for (const [id, at] of lastUsed) {
        this.#database.run("UPDATE tokens SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE id = ?", at, id);
      }
    });
  }
}

function toToken(row: SqlRow): TokenRecord {
  return {
    id: String(row.id),
    description: String(row.description),
    secretHash: String(row.secret_hash),
    createdAt: Number(row.created_at),
    lastUsedAt: row.last_used_at as number | null,
    revokedAt: row.revoked_at as number | null,
  };
}
