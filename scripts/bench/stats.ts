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

/** One line of the report. */
export interface Row {
  what: string;
  value: number;
  unit: "ms" | "MB/s" | "MB" | "x" | "%";
  n: number;
  /** what it is held against, measured in the same run */
  beside?: { what: string; value: number };
  /** the promise of docs/design.md: the value, or its ratio to `beside`, must not be more (for MB/s: not less) */
  budget?: { kind: "value" | "ratio"; limit: number };
  note?: string;
}

export const ratioOf = ({ value, beside }: Row): number | undefined => (beside === undefined ? undefined : value / beside.value);

/** Whether a row keeps its promise; undefined where there is none. */
export function keeps(row: Row): boolean | undefined {
  if (row.budget === undefined) return undefined;
  const measured = row.budget.kind === "value" ? row.value : (ratioOf(row) ?? Number.NaN);
  return row.unit === "MB/s" ? measured >= row.budget.limit : measured <= row.budget.limit;
}
