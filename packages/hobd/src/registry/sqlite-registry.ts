import { closeSync, openSync } from "node:fs";
import type { Registry } from "./registry.ts";
import { SqliteDatabase } from "./sqlite-database.ts";
import { SqliteSpriteRegistry } from "./sqlite-sprites.ts";
import { SqliteTokenRegistry } from "./sqlite-tokens.ts";

/**
 * Opens the registry in one SQLite file, making it when it is missing. Several processes may have it open at once.
 * @throws HobError `registry_unusable` | `home_unusable` | `no_space`
 */
export function openSqliteRegistry(path: string): Registry {
  makePrivate(path);
  const database = new SqliteDatabase(path);
  return {
    sprites: new SqliteSpriteRegistry(database),
    tokens: new SqliteTokenRegistry(database),
    [Symbol.asyncDispose]: async () => database.close(),
  };
}

/**
 * The registry holds the pilots' tokens: a new file is its owner's only, and SQLite gives its -wal and -shm files the
 * same mode. An existing file is not touched, as closing a descriptor of it would drop SQLite's locks (fcntl(2)).
 */
function makePrivate(path: string): void {
  try {
    closeSync(openSync(path, "wx", 0o600));
  } catch {
    // It exists, or opening it as a database tells better what is wrong.
  }
}
