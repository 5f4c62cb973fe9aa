import { rm } from "node:fs/promises";
import type { Logger } from "pino";
import type { Vm } from "../vmm/driver.ts";
import type { SpriteEntries, SpriteEntry } from "./entries.ts";
import type { RuntimePaths } from "./paths.ts";

export interface LeftoversParts {
  paths: Pick<RuntimePaths, "sprite">;
  entries: SpriteEntries;
  log: Logger;
}

/** What VMs leave beside their disk and memory: processes, and a folder of sockets that the next VM of the sprite has as well. */
export class Leftovers {
  readonly #parts: LeftoversParts;

  constructor(parts: LeftoversParts) {
    this.#parts = parts;
  }

  /** Ends what there is of a VM, and removes its folder. Called from within the sprite's queue. */
  async clear({ id }: SpriteEntry, vm?: Vm): Promise<void> {
    await vm?.kill();
    await rm(this.#parts.paths.sprite(id).run, { recursive: true, force: true });
  }

  /** The same for a VM that has ended by itself: whoever wants the sprite may be about to start the next one, or have done so. */
  clearInOrder(entry: SpriteEntry, vm: Vm): void {
    const { entries, log } = this.#parts;
    // A sprite that was destroyed meanwhile has nothing any more, and must not get an entry again.
    if (entries.get(entry.id) !== entry) return;
    const clear = async () => {
      if (entry.vm !== undefined) return;
      await this.clear(entry, vm);
      // Nobody can use the memory of a VM that was not saved, and the disk may be full because of it.
      if (entry.status === "cold") await rm(this.#parts.paths.sprite(entry.id).ram, { force: true });
    };
    entries
      .inOrder(entry.id, clear, true)
      .catch((error: unknown) => log.warn({ id: entry.id, err: error }, "a VM that has ended is not cleared"));
  }
}
