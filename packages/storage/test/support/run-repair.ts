import type { FsckReport } from "../../src/maintenance/fsck.ts";
import { fsckAndRepair, type RepairOptions, repairStates } from "../../src/maintenance/repair.ts";

export interface RepairRun {
  pages: number;
  blocks: number;
  documents: number;
  /** what is left */
  after: FsckReport;
}

/** As host and pilot do it together. @param machine hears which maps the states have now */
export async function runRepair(
  options: RepairOptions,
  machine?: { noteRoots(roots: ReadonlyMap<string, string>): void },
): Promise<RepairRun> {
  const { store, org, ownership } = options;
  const done = { pages: 0, blocks: 0, documents: 0 };
  const after = await fsckAndRepair({ store, org, sprites: [ownership.sprite] }, async (damage) => {
    const { pages, blocks, documents, roots } = await repairStates(options, damage);
    machine?.noteRoots(roots);
    done.pages += pages;
    done.blocks += blocks;
    done.documents += documents;
  });
  return { ...done, after };
}
