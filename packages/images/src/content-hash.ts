import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { lstat, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

/** Hash of everything a build reads: names and contents, in a fixed order. Hexadecimal SHA-256. */
export class InputHash {
  readonly #hash = createHash("sha256");

  value(name: string, value: unknown): this {
    this.#hash.update(`${name}\0${JSON.stringify(value)}\0`);
    return this;
  }

  async file(name: string, path: string): Promise<this> {
    return this.value(name, (await readFile(path)).toString("base64"));
  }

  /** Every regular file below a folder, with its mode; node_modules and tests are left out. */
  async tree(name: string, root: string): Promise<this> {
    for (const path of (await listFiles(root)).sort()) {
      const { mode } = await lstat(join(root, path));
      this.value(`${name}/${path}`, mode & 0o111);
      await this.file(path, join(root, path));
    }
    return this;
  }

  digest(): string {
    return this.#hash.digest("hex");
  }
}

async function listFiles(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .filter((path) => !/(^|\/)(node_modules|test)\//.test(path));
}

/** Hexadecimal SHA-256 of a file's contents, streamed. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
  return hash.digest("hex");
}
