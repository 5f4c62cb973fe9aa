import type { RepairRequest } from "@hob/protocol";
import { type ChunkCache, type ObjectStore, type PageStore, repairStates, type StateRepair } from "@hob/storage";
import type { LedgerState } from "../volume/ledger.ts";
import type { ThinVolume } from "../volume/thin-volume.ts";
import type { Durability } from "./durability.ts";
import { LocalSource } from "./local-source.ts";
import { originOf } from "./origin-name.ts";

export interface StoreRepairParts {
  store: ObjectStore;
  organization: string;
  volume: ThinVolume;
  durability: Pick<Durability, "exclusively">;
  pages: Pick<PageStore, "cached">;
  cache: ChunkCache | undefined;
}

/** Brings what the store has lost of the sprite's states back into it, as far as this machine has it. */
export async function repairStore(
  { store, organization, volume, durability, pages, cache }: StoreRepairParts,
  request: RepairRequest,
): Promise<StateRepair> {
  return await durability.exclusively(async (ownership) => {
    await using source = new LocalSource({ volume, pages, cache });
    const repaired = await repairStates({ store, org: organization, ownership, source }, request.damage);
    if (repaired.roots.size === 0) return repaired;
    await volume.ledger.update((state) => withRoots(state, repaired.roots));
    // The head with the new maps names the old ones as bases still, as the ledger did: `gc` deletes nothing while one is damaged.
    // What devices have been opened on it goes on to name, until the sprite's VM starts anew.
    await ownership.publish({});
    return repaired;
  });
}

/**
 * The ledger with the states' new maps. What was read from an old map, and what the next upload builds on, has the same
 * content in the new one, without the damage. `basis` stays: it says what the sprite was put over, not what it reads.
 */
export function withRoots(state: LedgerState, roots: StateRepair["roots"]): LedgerState {
  const origins = new Map([...roots].map(([before, after]) => [originOf(before), originOf(after)]));
  const moved = (origin: string | null): string | null => origins.get(origin) ?? origin;
  const { live, uploaded, checkpoints } = state;
  const root = uploaded?.root ?? null;
  return {
    ...state,
    live: { ...live, origin: moved(live.origin) },
    uploaded:
      uploaded === null ? null : { ...uploaded, origin: moved(uploaded.origin), root: root === null ? null : (roots.get(root) ?? root) },
    checkpoints: checkpoints.map((checkpoint) => ({ ...checkpoint, origin: moved(checkpoint.origin) })),
  };
}
