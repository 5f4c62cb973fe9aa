import { sha256 } from "../format/hash.ts";
import { blocksOfLevel } from "../format/page.ts";
import type { ChunkRef, MapRoot } from "../map/chunk-ref.ts";
import { walkPages } from "../map/traverse.ts";
import type { BlockChange } from "../upload/types.ts";
import { mapLimit } from "../util/concurrency.ts";
import type { Ranges } from "../util/ranges.ts";
import { PackCheck } from "./pack-check.ts";
import { onlyDamage, type RepairOptions } from "./repair-source.ts";
import type { StateRebuild } from "./state-rebuild.ts";

/** Chunks looked at side by side: each is a request. */
const CONCURRENT_CHECKS = 8;

interface LostChunk {
  readonly block: number;
  readonly ref: ChunkRef;
}

/** Lost chunks, which are sent again and become others: the map that names them changes. */
export class ChunkRepair {
  repaired = 0;
  readonly #options: RepairOptions;
  readonly #rebuild: StateRebuild;
  readonly #check: PackCheck;

  constructor(options: RepairOptions, rebuild: StateRebuild) {
    this.#options = options;
    this.#rebuild = rebuild;
    this.#check = new PackCheck(options.store, rebuild.pages.keys);
  }

  /**
   * The map with as many of the lost chunks in these ranges brought back as the source has.
   * @param unknown ranges whose pages were lost: nobody has looked for chunks there
   */
  async run(root: MapRoot, checkpoint: string | null, ranges: Ranges, unknown: Ranges): Promise<MapRoot> {
    const lost = await this.#find(root, ranges, unknown);
    return lost.length === 0 ? root : (await this.#rebuild.uploader.upload(root, this.#bring(lost, checkpoint))).root;
  }

  async #find(root: MapRoot, ranges: Ranges, unknown: Ranges): Promise<LostChunk[]> {
    const lost: LostChunk[] = [];
    await walkPages(this.#rebuild.pages, root, {
      enter: (_, level, first) => ranges.has(first, blocksOfLevel(level)) && !unknown.covers(first, blocksOfLevel(level)),
      leaf: async (page, _, first) => {
        this.#options.signal?.throwIfAborted();
        const named = [...page.entries].map(([index, ref]) => ({ block: first + index, ref })).filter(({ block }) => ranges.has(block));
        // Where the store has it right after all, nothing is put in its place.
        const problems = await mapLimit(named, CONCURRENT_CHECKS, ({ ref }) => this.#check.problemOfChunk(ref));
        lost.push(...named.filter((_, number) => problems[number] !== undefined));
      },
      broken: onlyDamage,
    });
    return lost;
  }

  async *#bring(lost: readonly LostChunk[], checkpoint: string | null): AsyncGenerator<BlockChange> {
    for (const { block, ref } of lost) {
      const data = await this.#options.source.chunk(ref.hash, block, checkpoint);
      if (data === undefined || sha256(data) !== ref.hash) continue;
      this.repaired++;
      yield { block, data };
    }
  }
}
