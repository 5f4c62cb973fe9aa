import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { type FileHandle, mkdir, mkdtemp, open, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { mapLimit } from "@hob/storage/util/concurrency.ts";
import type { BenchContext } from "../part.ts";
import { type ChangedBlock, changedPages, PAGE_BYTES } from "../volume-states.ts";

const run = promisify(execFile);
export const S3BACKER_BLOCK_BYTES = 64 * 1024;
/** reads and writes at the same time: in its test mode s3backer lets each read wait as a network would */
const CONCURRENT = 32;
const MOUNT_TIMEOUT_MS = 10_000;
const UNMOUNT_TIMEOUT_MS = 120_000;

/**
 * s3backer (Debian's package of that name): a block device in a bucket, one object a block, by FUSE. Its bucket is a folder
 * here (`--test`), so that objects can be counted; it does not compress in this mode.
 */
export class S3Backer {
  readonly #bucket: string;
  readonly #mountPoint: string;

  private constructor(directory: string) {
    this.#bucket = join(directory, "bucket");
    this.#mountPoint = join(directory, "mnt");
  }

  /** Why it cannot run here, or one that does. */
  static async start(context: BenchContext): Promise<S3Backer | string> {
    if (process.getuid?.() !== 0) return "s3backer: needs root, for FUSE";
    if (
      !(await run("s3backer", ["--version"]).then(
        () => true,
        () => false,
      ))
    )
      return "s3backer is not installed";
    const directory = await mkdtemp(join(tmpdir(), "hob-s3backer-"));
    context.defer(() => rm(directory, { recursive: true, force: true }));
    const backer = new S3Backer(directory);
    await Promise.all([mkdir(backer.#bucket), mkdir(backer.#mountPoint)]);
    return backer;
  }

  /** Writes what a volume's blocks were, then the pages that a change touched. @returns objects that the change has written */
  async replay(changes: readonly ChangedBlock[]): Promise<number> {
    await this.#mounted(async (file) => {
      await mapLimit(changes, CONCURRENT, async ({ block, before }) => {
        if (before !== undefined) await file.write(before, 0, before.length, block * before.length);
      });
    });
    const start = Date.now();
    await sleep(20);
    await this.#mounted(async (file) => {
      // The kernel lets one write into a file at a time, which would wait for the rest of its block; reads run side by side.
      await mapLimit(changes, CONCURRENT, ({ block }) => file.read(Buffer.alloc(PAGE_BYTES), 0, PAGE_BYTES, block * S3BACKER_BLOCK_BYTES));
      for (const change of changes) await writePages(file, change);
    });
    let written = 0;
    for (const name of await readdir(this.#bucket)) if ((await stat(join(this.#bucket, name))).mtimeMs > start) written++;
    return written;
  }

  async #mounted(work: (file: FileHandle) => Promise<void>): Promise<void> {
    const flags = [`--blockSize=${S3BACKER_BLOCK_BYTES}`, "--size=100G", "--blockCacheSize=4096", "--blockCacheMaxDirty=4000"];
    const noDelays = ["--blockCacheThreads=64", "--md5CacheSize=0", "--md5CacheTime=0", "--minWriteDelay=0"];
    const argv = ["--test", "-f", "--quiet", ...flags, ...noDelays, "-o", "big_writes", this.#bucket, this.#mountPoint];
    const child = spawn("s3backer", argv, { stdio: "ignore" });
    try {
      const file = await this.#open(child);
      try {
        await work(file);
      } finally {
        await file.close();
      }
    } finally {
      await this.#unmount(child);
    }
  }

  async #open(child: ChildProcess): Promise<FileHandle> {
    const deadline = performance.now() + MOUNT_TIMEOUT_MS;
    while (performance.now() < deadline && child.exitCode === null) {
      const file = await open(join(this.#mountPoint, "file"), "r+").catch(() => undefined);
      if (file !== undefined) return file;
      await sleep(50);
    }
    throw new Error("s3backer does not mount");
  }

  /** It writes what it still has, and ends. */
  async #unmount(child: ChildProcess): Promise<void> {
    await run("umount", [this.#mountPoint]).catch(() => child.kill("SIGTERM"));
    if (child.exitCode !== null || child.signalCode !== null) return;
    await once(child, "exit", { signal: AbortSignal.timeout(UNMOUNT_TIMEOUT_MS) }).catch(() => child.kill("SIGKILL"));
  }
}

async function writePages(file: FileHandle, change: ChangedBlock): Promise<void> {
  const after = change.after ?? Buffer.alloc(S3BACKER_BLOCK_BYTES);
  for (const page of changedPages(change)) {
    await file.write(after, page * PAGE_BYTES, PAGE_BYTES, change.block * S3BACKER_BLOCK_BYTES + page * PAGE_BYTES);
  }
}
