import type { CommandRunner } from "@hob/linux";
import type { HelperClient } from "../helper/index.ts";

const MKFS_TIMEOUT_MS = 120_000;

/**
 * The sprite's file system. Its journal is small and written at once: each block of the pool that is touched for the
 * first time costs a write of the pool's metadata. A thousandth is kept for the platform, so that it goes on working in
 * a volume that its user has filled. No discard at mkfs: the disk is new and sparse. No orphan file, which is for many
 * processors at a time: a mount reads all of it, block after block (ext4_init_orphan_info in fs/ext4/orphan.c), and of a volume over the
 * object store each of its 512 blocks is a request to the pilot.
 */
export async function formatVolume(runner: CommandRunner, device: string): Promise<void> {
  const extended = "lazy_itable_init=1,lazy_journal_init=0,nodiscard";
  const options = ["-O", "^orphan_file", "-E", extended, "-J", "size=16", "-m", "0.1", "-L", "volume"];
  await runner.run({ argv: ["mkfs.ext4", "-q", "-F", ...options, device], timeoutMs: MKFS_TIMEOUT_MS });
}

/** The file system for what stays on this machine; without an orphan file as well. */
export async function formatState(runner: CommandRunner, device: string): Promise<void> {
  const extended = "lazy_itable_init=1,lazy_journal_init=0,nodiscard";
  const options = ["-O", "^orphan_file", "-E", extended, "-J", "size=8", "-m", "0", "-L", "state"];
  await runner.run({ argv: ["mkfs.ext4", "-q", "-F", ...options, device], timeoutMs: MKFS_TIMEOUT_MS });
}

/** A volume may read from the object store, and a journal may have to be replayed. */
const MOUNT_TIMEOUT_MS = 120_000;

type Mounter = Pick<HelperClient, "idmapMount">;

/**
 * Mounts it to be written. Space that files give up goes back to the pool and the host at once. The tables of inodes
 * are not zeroed in the background, which would take 16 MiB of the pool for each GiB: unused parts are marked as such. Bitmaps of
 * blocks are read when one is needed: all of them at once are a hundred requests to the object store.
 */
export const mountExt4 = (helper: Mounter, source: string, target: string): Promise<void> =>
  helper.idmapMount({
    fsType: "ext4",
    source,
    target,
    options: ["discard", "noinit_itable", "no_prefetch_block_bitmaps"],
    attributes: ["noatime"],
    timeoutMs: MOUNT_TIMEOUT_MS,
  });

/**
 * Mounts a snapshot for reading. It was frozen when it was taken: its journal is empty, and nothing needs to be written.
 * Nobody needs to know what is free in each of its groups either, which the kernel would work out in the background.
 */
export const mountExt4ReadOnly = (helper: Mounter, source: string, target: string): Promise<void> =>
  helper.idmapMount({
    fsType: "ext4",
    source,
    target,
    options: ["noload", "no_prefetch_block_bitmaps"],
    attributes: ["ro", "nodev", "nosuid"],
    timeoutMs: MOUNT_TIMEOUT_MS,
  });
