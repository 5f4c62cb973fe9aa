import { CHECKPOINT_LIMITS } from "@hob/protocol";
import type { CheckpointRecord } from "../volume/ledger.ts";
import type { CheckpointParts } from "./parts.ts";
import { onlyNoSpace, tooMany } from "./retention.ts";

/**
 * Milliseconds for which the snapshot of the last upload is not given up once more: a pool that stays nearly full would have each
 * upload read all of the volume.
 */
const GIVEN_UP_EVERY_MS = 3_600_000;

export interface RoomParts extends Pick<CheckpointParts, "volume" | "giveUpUploaded" | "now"> {
  forget: (record: CheckpointRecord) => Promise<void>;
}

/** Room in the pool for one more snapshot. */
export class Room {
  readonly #parts: RoomParts;
  #givenUpAt = Number.NEGATIVE_INFINITY;

  constructor(parts: RoomParts) {
    this.#parts = parts;
  }

  /**
   * Makes it, if need be: the snapshot of the last upload goes first, which costs nobody anything but a longer upload, and then
   * automatic checkpoints, the oldest first.
   * @param keep a checkpoint that stays
   * @param most checkpoints that there may be, with the new one
   * @throws HobError `no_space` | `conflict`
   */
  async make(keep: string | undefined, most: number = CHECKPOINT_LIMITS.checkpoints): Promise<void> {
    const { volume, forget } = this.#parts;
    for (;;) {
      const { checkpoints } = volume.ledger.state;
      const full = checkpoints.length >= most;
      const refusal = full ? tooMany() : await volume.pool.requireRoomForSnapshot().catch(onlyNoSpace);
      if (refusal === undefined) return;
      if (full || !(await this.#giveUpUploaded())) {
        const oldest = checkpoints.find(({ automatic, id }) => automatic && id !== keep);
        if (oldest === undefined) throw refusal;
        await forget(oldest);
      }
      // The space is wanted now.
      await volume.reap();
    }
  }

  async #giveUpUploaded(): Promise<boolean> {
    const now = this.#parts.now().getTime();
    // A clock that was set back tells nothing of the time between.
    if (now >= this.#givenUpAt && now - this.#givenUpAt < GIVEN_UP_EVERY_MS) return false;
    const isGivenUp = (await this.#parts.giveUpUploaded?.()) ?? false;
    if (isGivenUp) this.#givenUpAt = now;
    return isGivenUp;
  }
}
