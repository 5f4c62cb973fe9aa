import { createHash } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";

/**
 * Where the runtime keeps things. Templates lie in the cache, beside the images that they are made from: they hold no
 * user's data and serve every daemon of this user.
 * Sockets lie apart, on a short path: theirs end at 107 bytes, unix(7).
 */
export class RuntimePaths {
  readonly sprites: string;
  readonly templates: string;
  /** one folder a running VM, on a tmpfs; made with the first of them */
  readonly run: string;

  constructor(home: string, cacheDir: string) {
    this.sprites = join(home, "sprites");
    this.templates = join(cacheDir, "templates");
    this.run = join(runtimeBase(), digest(resolve(home)));
    for (const directory of [this.sprites, this.templates]) mkdirSync(directory, { recursive: true, mode: 0o711 });
  }

  sprite(id: string): SpriteFiles {
    return spriteFiles(join(this.sprites, id), join(this.run, shortName(id)));
  }

  template(key: string): SpriteFiles {
    return spriteFiles(join(this.templates, key), join(this.run, `t-${digest(key)}`));
  }
}

/** Everything that one VM has on disk. */
export interface SpriteFiles {
  directory: string;
  /** raw, sparse; the sprite's data */
  volume: string;
  /** guest memory, sparse */
  ram: string;
  /** device state of a saved VM; its presence with `ram` makes the sprite warm */
  state: string;
  /** what the saved state fits, and on which boot of the host it was saved */
  stateInfo: string;
  /** which images the sprite was last started with */
  images: string;
  bootConfig: string;
  /** under which ownership the volume was written, see object-store/ownership-file.ts */
  ownership: string;
  /** what the object store has of a sprite that sleeps, see rest.ts */
  rest: string;
  console: string;
  /** folder of sockets while it runs */
  run: string;
}

const spriteFiles = (directory: string, run: string): SpriteFiles => ({
  directory,
  volume: join(directory, "volume.raw"),
  ram: join(directory, "memory.ram"),
  state: join(directory, "devices.state"),
  stateInfo: join(directory, "state.json"),
  images: join(directory, "images.json"),
  bootConfig: join(directory, "boot-config.img"),
  ownership: join(directory, "ownership.json"),
  rest: join(directory, "rest.json"),
  console: join(directory, "console.log"),
  run,
});

const digest = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 10);

/** `sprite-<uuid>` is unique by its first 16 digits too. */
const shortName = (id: string): string => id.replace(/^sprite-/, "").slice(0, 18);

function runtimeBase(): string {
  if (process.getuid?.() === 0) return "/run/hob";
  const { XDG_RUNTIME_DIR } = process.env;
  return XDG_RUNTIME_DIR === undefined ? `/tmp/hob-${process.getuid?.()}` : join(XDG_RUNTIME_DIR, "hob");
}
