import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { defaultCacheDir } from "@hob/images";

/**
 * A cache of its own with the images of the shared one, as hard links: it costs no space, and what is removed from it
 * stays in the other. Files must be replaced, never changed. It has no templates.
 */
export class CacheCopy implements Disposable {
  readonly directory: string;

  constructor() {
    const shared = defaultCacheDir();
    // Beside the original: hard links end at the borders of a file system. By its name the run that made it finds it again.
    this.directory = mkdtempSync(join(dirname(shared), `hob-e2e-cache-${basename(tmpdir())}-`));
    mkdirSync(join(this.directory, "images"));
    const components = readdirSync(join(shared, "images")).filter((name) => !name.startsWith("."));
    const sources = components.map((name) => join(shared, "images", name));
    execFileSync("cp", ["--archive", "--link", ...sources, join(this.directory, "images")]);
  }

  get env(): Record<string, string> {
    return { HOB_CACHE: this.directory };
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}
