import { type Checkpoint, FREEZE_LIMITS, type FreezeResponse } from "@hob/protocol";
import type { Checkpoints } from "../checkpoints/checkpoints.ts";
import type { InnerContainer } from "../container/container.ts";
import type { SpriteStorage } from "../durability/sprite-storage.ts";

/** The host waits for the whole answer no longer than two seconds. */
const STILL_MS = 500;

export interface HandOverParts {
  storage: Pick<SpriteStorage, "status"> & { durability: Pick<SpriteStorage["durability"], "storedAs" | "lag"> };
  checkpoints: Pick<Checkpoints, "turns" | "list">;
  /** stops the user's processes */
  container: Pick<InnerContainer, "freeze">;
  /** flushes everything to the volume's disk */
  sync: () => Promise<void>;
}

/**
 * Stops the user's processes, and changes of checkpoints, until the sprite goes on. @returns what the host answers with while it
 * sleeps: it holds until then
 */
export async function handOver(parts: HandOverParts): Promise<FreezeResponse> {
  const { storage, checkpoints, container } = parts;
  // Asked for at once: the sprite may go on while its processes are being stopped, and nobody would end it then.
  const still = checkpoints.turns.standStill(STILL_MS);
  try {
    await container.freeze();
  } catch (error) {
    checkpoints.turns.goOn();
    throw error;
  }
  const isStill = await still;
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
