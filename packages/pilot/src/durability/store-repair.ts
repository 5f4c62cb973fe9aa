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
  durability: Pick<Durability, "exclusively" | "sync">;
  pages: Pick<PageStore, "cached">;
  cache: ChunkCache | undefined;
  /** has heads name these origins too, until it is called with others */
  name: (origins: readonly string[]) => void;
}

/**
 * Brings what the store has lost of the sprite's states back into it, as far as this machine has it.
 *
 * A pilot that dies meanwhile leaves nothing half done: the new maps are named by the head before the ledger reads from them, and
 * the ledger builds on them before the head has them as states. Were the head first, the next upload would build on the old map of
 * the newest state, and bring the damage back or fail at it each time.
 */
export async function repairStore(parts: StoreRepairParts, request: RepairRequest): Promise<StateRepair> {
  const { store, organization, volume, durability, pages, cache, name } = parts;
  await catchUp(parts);
  return await durability.exclusively(async (ownership) => {
    await using source = new LocalSource({ volume, pages, cache });
    const beforeHead = async (roots: StateRepair["roots"]) => {
      name([...roots.values()].map((root) => `${originOf(root)}`));
      try {
        await ownership.publish({});
        await volume.ledger.update((state) => withRoots(state, roots));
      } finally {
        name([]);
      }
    };
    // The head names the old maps no more, but for those that devices are open on, until the sprite's VM starts anew.
    return await repairStates({ store, org: organization, ownership, source, beforeHead }, request.damage);
  });
}

/**
 * The newest state in the store is repaired from the snapshot of the last upload, if that is what it is. A pilot that died in a repair
 * has left a ledger that is ahead of the head, and so have uploads of checkpoints.
 */
async function catchUp({ volume, durability }: StoreRepairParts): Promise<void> {
  const isAhead = await durability.exclusively(async ({ head }) => head.root !== (volume.ledger.state.uploaded?.root ?? null));
  // It may be the damage that keeps it from being uploaded.
  if (isAhead) await durability.sync().catch(() => {});
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
