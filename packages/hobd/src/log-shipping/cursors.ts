import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { type LogCursor, logCursor } from "@hob/protocol";

/** How far each sprite's logs have been shipped, one file per sprite. A lost one means lines twice, never lines missing. */
export class Cursors {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async load(spriteId: string): Promise<LogCursor> {
    try {
      return logCursor.parse(JSON.parse(await readFile(this.#pathOf(spriteId), "utf8")));
    } catch {
      return {};
    }
  }

  async save(spriteId: string, cursor: LogCursor): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const temporary = `${this.#pathOf(spriteId)}.new`;
    const file = await open(temporary, "w", 0o600);
    try {
      await file.writeFile(JSON.stringify(cursor));
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(temporary, this.#pathOf(spriteId));
  }

  async remove(spriteId: string): Promise<void> {
    await rm(this.#pathOf(spriteId), { force: true });
  }

  /** Forgets all sprites but these. */
  async keepOnly(spriteIds: ReadonlySet<string>): Promise<void> {
    const names = await readdir(this.#directory).catch(() => []);
    for (const name of names)
      if (!spriteIds.has(name.replace(/\.json(\.new)?$/, ""))) await rm(join(this.#directory, name), { force: true });
  }

  #pathOf(spriteId: string): string {
    return join(this.#directory, `${spriteId}.json`);
  }
}
