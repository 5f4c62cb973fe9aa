import { chmod, chown, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { ID_MAP, SPRITE_USER } from "../container/ids.ts";
import { PLAIN_DIRECTORIES } from "../container/spec.ts";

/** Folders of a volume's file system; the container only sees folders below `path`, whatever device they come from. */
export interface VolumeTree {
  readonly path: string;
  /** the writable layer of the root file system, overlayfs(5): both folders on one file system */
  readonly upper: string;
  readonly work: string;
}

/** Where everything that a sprite keeps lies. */
export interface Volume extends VolumeTree {
  /** makes the volume available; formats a blank disk */
  attach(): Promise<void>;
  sync(): Promise<void>;
  detach(): Promise<void>;
}

export const treeAt = (path: string): VolumeTree => ({
  path,
  upper: join(path, "root-upper/upper"),
  work: join(path, "root-upper/work"),
});

/** Makes what a volume consists of. Idempotent: a cold start finds the folders of the last run. */
export async function layOut({ path, upper, work }: VolumeTree): Promise<void> {
  await mkdir(join(path, "platform"), { recursive: true, mode: 0o700 });
  await mkdir(work, { recursive: true });
  await mkdir(upper, { recursive: true });
  await chown(upper, ID_MAP.firstId, ID_MAP.firstId);
  for (const { name, uid, mode } of PLAIN_DIRECTORIES) {
    const created = await mkdir(join(path, name)).then(
      () => true,
      () => false,
    );
    if (!created) continue;
    const owner = ID_MAP.firstId + uid;
    await chown(join(path, name), owner, uid === SPRITE_USER.uid ? owner : ID_MAP.firstId);
    await chmod(join(path, name), mode);
  }
}
