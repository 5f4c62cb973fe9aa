import type { Sprite } from "@fly/sprites";

export interface PodmanCommit {
  ms: number;
  imageMb: number;
}

/**
 * `podman commit` inside a sprite, of a container that has a copy of a folder: what there is without checkpoints. The clock
 * is the guest's, around the one command.
 */
export async function podmanCommit(sprite: Sprite, folder: string): Promise<PodmanCommit> {
  const script = `
    tar -c -T /dev/null | podman import -q - empty >/dev/null
    container=$(podman create empty /none)
    podman unshare sh -ec 'at=$(podman mount "$1"); cp -a "$2" "$at/"; podman unmount "$1" >/dev/null' sh "$container" "${folder}"
    sync
    start=$(date +%s%3N)
    podman commit -q "$container" committed >/dev/null
    sync
    end=$(date +%s%3N)
    echo $((end - start)) $(podman image inspect --format '{{.Size}}' committed)
    podman rm "$container" >/dev/null; podman rmi -a -f >/dev/null
  `;
  const { stdout } = await sprite.execFile("sh", ["-ec", script]);
  const [ms = Number.NaN, bytes = Number.NaN] = String(stdout).trim().split(" ").map(Number);
  return { ms, imageMb: bytes / 1e6 };
}
