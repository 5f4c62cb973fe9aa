import { type Checkpoint, FREEZE_LIMITS, type FreezeResponse } from "@hob/protocol";
import type { Checkpoints } from "../checkpoints/checkpoints.ts";
import type { SpriteStorage } from "../durability/sprite-storage.ts";

/** The host waits for the whole answer no longer than two seconds. */
const STILL_MS = 500;

export interface HandOverParts {
  storage: Pick<SpriteStorage, "status"> & { durability: Pick<SpriteStorage["durability"], "storedAs" | "lag"> };
  checkpoints: Pick<Checkpoints, "turns" | "list">;
  /** flushes everything to the volume's disk */
  sync: () => Promise<void>;
}

/**
 * What the host answers with while the sprite sleeps. The user's processes stand still, and from here on its checkpoints do too: what
 * is said holds until the sprite goes on.
 */
export async function handOver(parts: HandOverParts): Promise<FreezeResponse> {
  const { storage, checkpoints } = parts;
  const isStill = await checkpoints.turns.standStill(STILL_MS);
  return {
    storedAs: (await storedAs(parts)) ?? null,
    checkpoints: isStill ? unlessTooMuch(checkpoints.list({ includeAuto: true })) : null,
    storage: await storage.status(),
    lag: await storage.durability.lag(),
  };
}

/** Asked twice: what processes had written, but not yet to the disk, may be what the store has not. */
async function storedAs({ storage, sync }: Pick<HandOverParts, "storage" | "sync">): Promise<string | undefined> {
  if ((await storage.durability.storedAs()) === undefined) return undefined;
  await sync();
  return storage.durability.storedAs();
}

/** Comments may be long, and the host reads so much and no more. */
const unlessTooMuch = (listed: Checkpoint[]): Checkpoint[] | null =>
  Buffer.byteLength(JSON.stringify(listed)) > FREEZE_LIMITS.checkpointsBytes ? null : listed;
