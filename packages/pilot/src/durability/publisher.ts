import type { HeadChange, HeadDocument, Ownership, UploadResult } from "@hob/storage";
import type { Logger } from "pino";
import type { CheckpointRecord } from "../volume/ledger.ts";
import { factsOf } from "./checkpoint-facts.ts";
import { givenNumbers, knowsNumbers, type NextNumbers } from "./given-numbers.ts";
import type { LiveState, StateOptions, VolumeUpload } from "./volume-upload.ts";

export interface PublisherParts {
  upload: Pick<VolumeUpload, "checkpoints" | "checkpoint" | "live" | "asLive">;
  log: Pick<Logger, "info">;
  /** of checkpoints, as the sprite's ledger has them; left out, a head knows of those that it has named */
  numbers?: (() => NextNumbers) | undefined;
  now: () => number;
  signal: AbortSignal;
}

/** What the head names as the sprite's newest state from now on. */
export interface Published {
  /** when it was the live volume's state */
  readonly atMs: number;
  readonly live: LiveState;
}

/** Makes the head say what the sprite has: its checkpoints, and a state of its volume. */
export class Publisher {
  readonly #parts: PublisherParts;

  constructor(parts: PublisherParts) {
    this.#parts = parts;
  }

  /** Not those that came after others of their kind were deleted everywhere: what the head has is a part of the ledger. */
  pending(head: HeadDocument | undefined): CheckpointRecord[] {
    const durable = new Set(head?.checkpoints.map(({ id }) => id));
    return this.#parts.upload.checkpoints.filter(({ id }) => !durable.has(id));
  }

  /** Makes the head name the numbers that checkpoints were given, if it does not. */
  async publishNumbers(ownership: Ownership): Promise<void> {
    const given = this.#given(ownership);
    if (!knowsNumbers(ownership.head, given)) await ownership.publish(given, { signal: this.#parts.signal });
  }

  /** Of checkpoints that were deleted before they came into the store as well. */
  #given({ head }: Ownership): HeadChange {
    const { numbers } = this.#parts;
    return numbers === undefined ? {} : givenNumbers(numbers(), head, this.pending(head));
  }

  async removeDeleted(ownership: Ownership): Promise<void> {
    const present = new Set(this.#parts.upload.checkpoints.map(({ id }) => id));
    for (const { id } of ownership.head.checkpoints) if (!present.has(id)) await ownership.deleteCheckpoint(id);
  }

  /** @returns undefined: the head names another state of the volume, or the checkpoint was deleted */
  async addCheckpoint(ownership: Ownership, record: CheckpointRecord): Promise<Published | undefined> {
    const startedMs = this.#parts.now();
    const { id, createTime } = record;
    await using uploaded = await this.#parts.upload.checkpoint(record, this.#options(ownership)).catch((error: unknown) => {
      // It was deleted while the ones before it were brought there: what it held is gone, and nobody wants it.
      if (this.#parts.upload.checkpoints.some((present) => present.id === id)) throw error;
      return undefined;
    });
    if (uploaded === undefined) return undefined;
    const { result } = uploaded;
    // Nobody has written since, as before a sleep: then the head's own state need not be brought there once more.
    const live = await this.#parts.upload.asLive(record);
    await ownership.addCheckpoint(
      {
        ...{ id, ...factsOf(record) },
        ...{ root: result.root, storedBlocks: result.storedBlocks },
        ...{ changedBlocks: result.stats.blocks, uploadedBytes: result.stats.bytesUploaded },
      },
      live === undefined ? {} : headChange(result, live),
      { startedAt: result.startedAt, signal: this.#parts.signal },
    );
    await uploaded.keep();
    this.#parts.log.info(
      { checkpoint: id, live: live !== undefined, ms: this.#parts.now() - startedMs, ...result.stats },
      "checkpoint is durable",
    );
    return live === undefined ? undefined : { atMs: Math.min(startedMs, Date.parse(createTime)), live };
  }

  async publishLive(ownership: Ownership): Promise<Published> {
    const startedMs = this.#parts.now();
    await using uploaded = await this.#parts.upload.live(this.#options(ownership));
    const { result } = uploaded;
    await ownership.publish(
      { ...headChange(result, uploaded), ...this.#given(ownership) },
      { startedAt: result.startedAt, signal: this.#parts.signal },
    );
    await uploaded.keep();
    this.#parts.log.info({ ms: this.#parts.now() - startedMs, ...result.stats }, "volume is durable");
    return { atMs: startedMs, live: uploaded };
  }

  #options(ownership: Ownership): StateOptions {
    const isThere = (id: string) => ownership.head.checkpoints.some((one) => one.id === id);
    const rootOf = async (id: string) => (isThere(id) ? (await ownership.readCheckpoint(id)).root : undefined);
    return { signal: this.#parts.signal, rootOf };
  }
}

/** The live volume's state, as a head names it. */
function headChange({ root, storedBlocks }: UploadResult, { history, undo }: LiveState): HeadChange {
  const attributes = { history: JSON.stringify(history), ...(undo === null ? {} : { undo }) };
  return { root, storedBlocks, parent: history[0] ?? null, attributes };
}
