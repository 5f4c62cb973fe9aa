import { chmod, chown, mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import type { CommandRunner } from "@hob/linux";
import { PATHS } from "../config.ts";
import { ID_MAP, SPRITE_USER } from "../container/ids.ts";
import { PLAIN_DIRECTORIES } from "../container/spec.ts";

/**
 * Where everything that a sprite keeps lies. This is the seam for the storage stack: the container only sees folders
 * below `path`, whatever block device or snapshot they come from.
 */
export interface Volume {
  readonly path: string;
  /** the writable layer of the root file system, overlayfs(5): both folders on one file system */
  readonly upper: string;
  readonly work: string;
  /** makes the volume available; formats a blank device */
  attach(): Promise<void>;
  sync(): Promise<void>;
  detach(): Promise<void>;
}

/** A volume that is a plain ext4 file system on one disk. */
export class DiskVolume implements Volume {
  readonly path: string;
  readonly #device: string;
  readonly #runner: CommandRunner;

  constructor(device: string, path: string, runner: CommandRunner) {
    this.#device = device;
    this.path = path;
    this.#runner = runner;
  }

  get upper(): string {
    return join(this.path, "root-upper/upper");
  }

  get work(): string {
    return join(this.path, "root-upper/work");
  }

  async attach(): Promise<void> {
    if (await isBlank(this.#device)) await this.#format();
    await this.#runner.run({ argv: ["mount", "-t", "ext4", "-o", "discard,noatime", this.#device, this.path], timeoutMs: 60_000 });
    await this.#layOut();
  }

  async sync(): Promise<void> {
    await this.#runner.run({ argv: ["sync", "-f", this.path], timeoutMs: 60_000 });
  }

  async detach(): Promise<void> {
    await this.#runner.run({ argv: ["umount", this.path], timeoutMs: 60_000 });
  }

  async #format(): Promise<void> {
    // No discard at mkfs: the disk is new and sparse. The journal is small: most commits are.
    const options = ["-q", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", "-m", "0", "-J", "size=64", "-L", "volume"];
    await this.#runner.run({ argv: ["mkfs.ext4", ...options, this.#device], timeoutMs: 120_000 });
  }

  /** Idempotent: a cold start finds the folders of the last run. */
  async #layOut(): Promise<void> {
    for (const directory of [PATHS.platform, PATHS.state]) await mkdir(directory, { recursive: true, mode: 0o700 });
    await mkdir(this.work, { recursive: true });
    await mkdir(this.upper, { recursive: true });
    await chown(this.upper, ID_MAP.firstId, ID_MAP.firstId);
    for (const { name, uid, mode } of PLAIN_DIRECTORIES) {
      const created = await mkdir(join(this.path, name)).then(
        () => true,
        () => false,
      );
      if (!created) continue;
      const owner = ID_MAP.firstId + uid;
      await chown(join(this.path, name), owner, uid === SPRITE_USER.uid ? owner : ID_MAP.firstId);
      await chmod(join(this.path, name), mode);
    }
  }
}

/** ext4 has its superblock in bytes 1024 to 2048; a new disk is all zeros. */
async function isBlank(device: string): Promise<boolean> {
  const handle = await open(device, "r");
  try {
    const { buffer } = await handle.read(Buffer.alloc(4096), 0, 4096, 0);
    return buffer.every((byte) => byte === 0);
  } finally {
    await handle.close();
  }
}
