import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sha256 } from "../../src/format/hash.ts";
import { MAX_PAGE_BYTES } from "../../src/format/page.ts";
import { DirectoryStore } from "../../src/store/directory-store.ts";

export const DAMAGE = ["flipped", "truncated", "deleted", "grown"] as const;
export type DamageKind = (typeof DAMAGE)[number];

/** A store in a folder of its own, whose files are damaged as a disk would. */
export class StoreFolder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "hob-store-"));

  open(): Promise<DirectoryStore> {
    return DirectoryStore.open(this.path);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }

  /** @param at which of its bytes is flipped, from 0 up to 1 */
  damage(key: string, kind: DamageKind, at = 0.5): void {
    const path = join(this.path, key);
    const bytes = readFileSync(path);
    const place = Math.floor(bytes.length * at);
    if (kind === "deleted") unlinkSync(path);
    else if (kind === "truncated") truncateSync(path, place);
    else if (kind === "grown") appendFileSync(path, Buffer.alloc(MAX_PAGE_BYTES));
    else {
      bytes.writeUInt8(bytes.readUInt8(place) ^ 0x10, place);
      writeFileSync(path, bytes);
    }
  }

  bytes(key: string): Buffer {
    return readFileSync(join(this.path, key));
  }

  /** Keys below a prefix. */
  keys(prefix: string): string[] {
    return readdirSync(join(this.path, prefix), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(this.path.length + 1))
      .sort();
  }

  /** Every object with the hash of its content. */
  content(): string[] {
    return this.keys("orgs").map((key) => `${key} ${sha256(this.bytes(key))}`);
  }
}
