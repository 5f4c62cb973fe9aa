import type { ObjectStore } from "../../src/store/object-store.ts";

export interface TortureOptions {
  seed: number;
  operations: number;
  store: ObjectStore;
  /** lets time pass for the objects of the store */
  advance: (ms: number) => void | Promise<void>;
  /** probability of a fault at each request; default 0.1 */
  faultRate?: number;
}

export interface TortureReport {
  seed: number;
  operations: Record<string, number>;
  faults: number;
  /** operations that ended with an error of the store; what they had changed or not was found out */
  uncertain: number;
  verifiedStates: number;
}
