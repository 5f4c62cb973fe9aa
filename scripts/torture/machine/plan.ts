import { Random } from "../../../packages/storage/test/support/random.ts";

export const OPERATIONS = ["rest", "write", "checkpoint", "restore", "delete", "fork", "sync", "collect", "restart", "loseHost"] as const;
export type OperationKind = (typeof OPERATIONS)[number];

export const KILLS = ["vmm", "pilot", "daemon", "store"] as const;
export type KillKind = (typeof KILLS)[number];

export const FAULTS = ["503", "hang", "drop", "drop-after", "delay", "slow"] as const;
export type FaultKind = (typeof FAULTS)[number];

/** A time in which requests to the store go wrong. */
export interface FaultWindow {
  kind: FaultKind;
  afterMs: number;
  forMs: number;
  /** part of the requests that it meets */
  share: number;
  /** requests that hang do so until the client gives up, and not until the window closes */
  isLasting: boolean;
}

export interface Step {
  number: number;
  operation: OperationKind;
  /** what is killed, milliseconds after the operation has begun */
  kill?: { kind: KillKind; afterMs: number };
  fault?: FaultWindow;
  /** for all other choices of this step: none depends on how earlier ones ended */
  seed: number;
}

/** How often each is chosen, and about how long it takes under emulation: a kill comes within that. */
const WEIGHTS: Readonly<Record<OperationKind, { weight: number; durationMs: number }>> = {
  rest: { weight: 3, durationMs: 500 },
  write: { weight: 6, durationMs: 3_000 },
  checkpoint: { weight: 5, durationMs: 1_500 },
  restore: { weight: 4, durationMs: 3_000 },
  delete: { weight: 2, durationMs: 500 },
  fork: { weight: 3, durationMs: 8_000 },
  sync: { weight: 3, durationMs: 2_500 },
  collect: { weight: 1, durationMs: 2_000 },
  restart: { weight: 1, durationMs: 2_000 },
  loseHost: { weight: 2, durationMs: 4_000 },
};

const WEIGHTED = OPERATIONS.flatMap((kind) => Array.from({ length: WEIGHTS[kind].weight }, () => kind));

/** These end daemon and VM themselves: the store alone may be killed under them. */
const ENDS_ALL: ReadonlySet<OperationKind> = new Set(["collect", "restart", "loseHost"]);

/** What a seed stands for. */
export function planOf(seed: number, steps: number): Step[] {
  const random = new Random(seed);
  return Array.from({ length: steps }, (_, index) => stepOf(random, index + 1));
}

function stepOf(random: Random, number: number): Step {
  const operation = random.pick(WEIGHTED);
  // All are drawn, whether they are used or not: what a step does changes none of those after it.
  const isKilled = operation === "rest" || random.chance(0.5);
  const kind = random.pick(KILLS);
  const afterMs = random.below(WEIGHTS[operation].durationMs);
  const isFaulty = random.chance(0.35);
  const fault = {
    kind: random.pick(FAULTS),
    afterMs: random.below(2_000),
    forMs: 1_000 + random.below(12_000),
    share: 0.3 + random.next() / 2,
  };
  const isLasting = random.chance(0.1);
  return {
    ...{ number, operation, seed: random.below(2 ** 31) },
    ...(isKilled ? { kill: { kind: ENDS_ALL.has(operation) ? "store" : kind, afterMs } } : {}),
    ...(isFaulty ? { fault: { ...fault, isLasting } } : {}),
  };
}

export function nameOf({ operation, kill, fault }: Step): string {
  const killed = kill === undefined ? "" : `, ${kill.kind} killed after ${kill.afterMs} ms`;
  const faulty = fault === undefined ? "" : `, store: ${fault.kind} after ${fault.afterMs} ms for ${fault.forMs} ms`;
  return `${operation}${killed}${faulty}`;
}
