import { CHECKPOINT_LIMITS, HobError } from "@hob/protocol";

/** How many automatic checkpoints are kept, by age. */
export const KEPT = {
  /** the newest of each reason, however close together */
  newest: 3,
  /** one for each of the hours before now in which there is one */
  hours: 24,
  /** one for each day */
  days: 7,
} as const;

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export interface Aged {
  readonly id: string;
  readonly createTime: string;
  /** why it was taken */
  readonly reason: string | null;
}

/**
 * The automatic checkpoints that are not worth their space any more: of each hour of the last day, and of each day of
 * the last week, the newest is kept, and the newest few of each reason: a sprite that sleeps often must not lose the states
 * before its restores.
 * @param automatic oldest first
 */
export function superfluous<T extends Aged>(automatic: readonly T[], nowMs: number): T[] {
  const newestFirst = [...automatic].reverse();
  const kept = new Set([...Map.groupBy(newestFirst, ({ reason }) => reason).values()].flatMap((same) => same.slice(0, KEPT.newest)));
  for (const [periodMs, count] of [
    [HOUR_MS, KEPT.hours],
    [DAY_MS, KEPT.days],
  ] as const) {
    const seen = new Set<number>();
    for (const checkpoint of newestFirst) {
      const createdMs = Date.parse(checkpoint.createTime);
      const period = Math.floor(createdMs / periodMs);
      // Also bounds the number when the clock was wrong: what lies in the future counts as now.
      if (nowMs - createdMs >= periodMs * count || seen.has(period) || seen.size >= count) continue;
      seen.add(period);
      kept.add(checkpoint);
    }
  }
  return automatic.filter((checkpoint) => !kept.has(checkpoint));
}

export const tooMany = (): HobError =>
  new HobError("conflict", `take a checkpoint: there are ${CHECKPOINT_LIMITS.checkpoints}, and no more are kept`, {
    hint: "delete checkpoints that are not needed any more",
  });

/** To catch that the pool has no room. What else fails says nothing of room, and costs no checkpoint: it is thrown. */
export function onlyNoSpace(error: unknown): HobError {
  if (error instanceof HobError && error.code === "no_space") return error;
  throw error;
}
