import { setTimeout as sleep } from "node:timers/promises";
import type { GetOptions, ObjectStore, StoredObject } from "@hob/storage/store/object-store.ts";
import { PrefixStore } from "@hob/storage/store/prefix-store.ts";

/** Milliseconds that a round trip takes. */
const ROUND_TRIP_MS = 20;

/**
 * A store far away: reads that are asked for side by side are answered together, in one round. The number of rounds is what
 * a start waits for, whatever a round trip takes.
 */
export class RoundStore extends PrefixStore {
  rounds = 0;
  readonly keys: string[] = [];
  #round: Promise<void> | undefined;

  constructor(inner: ObjectStore) {
    super(inner, "far");
  }

  override async get(key: string, options?: GetOptions): Promise<StoredObject | undefined> {
    this.keys.push(key);
    this.#round ??= this.#begin();
    await this.#round;
    return await super.get(key, options);
  }

  async #begin(): Promise<void> {
    await sleep(ROUND_TRIP_MS);
    this.#round = undefined;
    this.rounds++;
  }
}
