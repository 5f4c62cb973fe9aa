import type { FaultKind, KillKind, OperationKind } from "./plan.ts";

/** What was done, and how often. */
export class Report {
  readonly operations: Partial<Record<OperationKind, number>> = {};
  readonly kills: Partial<Record<KillKind, number>> = {};
  faults: Partial<Record<FaultKind, number>> = {};
  /** operations that a kill or a fault cut off: whether they had an effect was found out */
  uncertain = 0;
  /** states whose every file was compared with what was recorded */
  verified = 0;

  count<K extends string>(counts: Partial<Record<K, number>>, kind: K): void {
    counts[kind] = (counts[kind] ?? 0) + 1;
  }

  toString(): string {
    const { uncertain, verified } = this;
    return [
      `operations ${shown(this.operations)}`,
      `kills ${shown(this.kills)}`,
      `faults ${shown(this.faults)}`,
      `${uncertain} uncertain`,
      `${verified} states verified`,
    ].join("; ");
  }
}

function shown(counts: Partial<Record<string, number>>): string {
  const entries = Object.entries(counts);
  const sum = entries.reduce((total, [, count]) => total + (count ?? 0), 0);
  return entries.length === 0 ? "0" : `${sum} (${entries.map(([kind, count]) => `${kind} ${count}`).join(", ")})`;
}
