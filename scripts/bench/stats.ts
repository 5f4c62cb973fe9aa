/** A series of measurements of one thing, and what is said of it. */
export class Series {
  readonly #values: number[] = [];

  add(value: number): void {
    this.#values.push(value);
  }

  get count(): number {
    return this.#values.length;
  }

  /** Nearest-rank percentile, 0 to 100. NaN of an empty series. */
  percentile(p: number): number {
    const sorted = [...this.#values].sort((a, b) => a - b);
    return sorted[Math.max(0, Math.ceil((p / 100) * sorted.length) - 1)] ?? Number.NaN;
  }

  get p50(): number {
    return this.percentile(50);
  }
}

/** A rate or a throughput is better when it is larger; everything else when it is smaller. */
export type Unit = "ms" | "s" | "MB" | "%" | "x" | "" | "MB/s" | "/s";

const isRate = (unit: Unit): boolean => unit === "MB/s" || unit === "/s";

/** One line of the report. */
export interface Row {
  what: string;
  /** NaN: not measured, `note` says why */
  value: number;
  unit: Unit;
  n: number;
  /** what it is held against, measured in the same run and in the same unit */
  beside?: { what: string; value: number };
  /** the promise of docs/design.md: the value, or its ratio to `beside`, must not be more (of a rate: not less) */
  budget?: { kind: "value" | "ratio"; limit: number };
  note?: string;
}

export const ratioOf = ({ value, beside }: Row): number | undefined => (beside === undefined ? undefined : value / beside.value);

/** The promise in words; empty where there is none. */
export const budgetOf = ({ budget, unit }: Row): string =>
  budget === undefined ? "" : `${budget.kind === "ratio" ? "ratio " : ""}${isRate(unit) ? "≥" : "≤"} ${budget.limit}`;

/** Whether a row keeps its promise; undefined where there is none, or nothing was measured. */
export function keeps(row: Row): boolean | undefined {
  if (row.budget === undefined) return undefined;
  const measured = row.budget.kind === "value" ? row.value : (ratioOf(row) ?? Number.NaN);
  if (Number.isNaN(measured)) return undefined;
  return isRate(row.unit) ? measured >= row.budget.limit : measured <= row.budget.limit;
}

/** A row for what could not be measured here. */
export const notMeasured = (what: string, unit: Unit, why: string): Row => ({ what, value: Number.NaN, unit, n: 0, note: why });

export const megabytesPerSecond = (bytes: number, ms: number): number => bytes / 1e3 / ms;
