/** Time as services need it; a seam for tests. */
export interface Timers {
  /** Unix time, milliseconds */
  now(): number;
  /** milliseconds since any point; never goes back */
  monotonic(): number;
  /** @returns a function that takes it back */
  after(ms: number, callback: () => void): () => void;
}

export const SYSTEM_TIMERS: Timers = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
};
