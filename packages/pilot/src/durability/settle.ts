import type { StorageLag } from "@hob/protocol";
import type { Checkpoints } from "../checkpoints/checkpoints.ts";
import { within } from "../within.ts";
import type { Durability } from "./durability.ts";

export interface SettleParts {
  checkpoints: Pick<Checkpoints, "automatic">;
  durability: Pick<Durability, "settle">;
  onError: (error: unknown) => void;
}

/**
 * What is done before a sprite sleeps: an automatic checkpoint if files were changed since the last one, and then into
 * the object store what it lacks. Neither a full disk nor a store that is away keeps the sprite from its sleep.
 * @returns what the store lacks after that time at the latest
 */
export async function settle({ checkpoints, durability, onError }: SettleParts, waitMs: number): Promise<StorageLag | null> {
  const deadline = performance.now() + waitMs;
  await within(waitMs, checkpoints.automatic("sleep").catch(onError));
  return durability.settle(Math.max(0, deadline - performance.now()));
}
