/** Milliseconds before the first restart; each further one in a row waits twice as long, up to the bound. */
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 60_000;

/** A service that ran this long counts as healthy: the next restart is a first one again. */
export const HEALTHY_AFTER_MS = 30_000;

/** @param failures ends in a row before this restart, at least 1 */
export const restartDelayMs = (failures: number): number => Math.min(FIRST_DELAY_MS * 2 ** Math.min(failures - 1, 20), LONGEST_DELAY_MS);
