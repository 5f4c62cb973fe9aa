import { HobError } from "@hob/protocol";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { RetryingStore } from "../../src/store/retrying-store.ts";
import { type Fault, FaultyStore } from "./faulty-store.ts";
import type { Random } from "./random.ts";

/** A store that fails now and then, but not while somebody looks at what has happened. */
export class TortureStore {
  readonly store: ObjectStore;
  faults = 0;
  /** attempts that ended with an error of the store */
  uncertain = 0;
  readonly #random: Random;
  readonly #faultRate: number;
  /** how many are looking: several sprites are written at the same time */
  #looking = 0;

  constructor(inner: ObjectStore, random: Random, faultRate: number) {
    this.#random = random;
    this.#faultRate = faultRate;
    const faulty = new FaultyStore(inner);
    faulty.decide = () => this.#fault();
    this.store = new RetryingStore(faulty, { attempts: 2, firstPauseMs: 1, longestPauseMs: 2 });
  }

  #fault(): Fault {
    if (this.#looking > 0 || !this.#random.chance(this.#faultRate)) return "none";
    this.faults++;
    return this.#random.pick(["before", "after", "late"] as const);
  }

  /** Without faults. */
  async calmly<R>(work: () => Promise<R>): Promise<R> {
    this.#looking++;
    try {
      return await work();
    } finally {
      this.#looking--;
    }
  }

  /** Whether it was done for sure; false when the store was away, and it may have been done or not. */
  async attempt(work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (!(error instanceof HobError) || error.code !== "store_unavailable") throw error;
      this.uncertain++;
      return false;
    }
  }
}
