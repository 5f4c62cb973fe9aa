import type { Registry } from "./registry.ts";
import { SqliteDatabase } from "./sqlite-database.ts";
import { SqliteSpriteRegistry } from "./sqlite-sprites.ts";
import { SqliteTokenRegistry } from "./sqlite-tokens.ts";

/**
 * Opens the registry in one SQLite file, making it when it is missing. Several processes may have it open at once.
 * @throws HobError `registry_unusable` | `home_unusable` | `no_space`
 */
export function openSqliteRegistry(path: string): Registry {
  const database = new SqliteDatabase(path);
  return {
    sprites: new SqliteSpriteRegistry(database),
    tokens: new SqliteTokenRegistry(database),
    [Symbol.asyncDispose]: async () => database.close(),
  };
}
