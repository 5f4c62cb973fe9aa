import type { Random } from "../../../packages/storage/test/support/random.ts";

/** What a parser made of an input: a value, or a refusal that is documented. Everything else is thrown. */
export type Verdict = "accepted" | "refused";

/** How a parser failed. */
export type FaultKind = "crash" | "wrong" | "hang" | "5xx" | "leak";

/** Something that no input may bring about. */
export class Fault extends Error {
  readonly kind: FaultKind;

  constructor(kind: FaultKind, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.kind = kind;
  }
}

/** A parser of bytes from outside, with all that it needs, under way. */
export interface Subject<T = unknown> extends Partial<AsyncDisposable> {
  /** Makes one input; the same random numbers make the same one. */
  input(random: Random): T;
  /** Gives it to the parser. @throws Fault | any other error, which counts as a crash */
  run(input: T): Verdict | Promise<Verdict>;
  /** Ends what inputs left under way, drops what only the trial itself gathers, and counts what the subject still holds. */
  settle?(): number | Promise<number>;
}

/** One parser that is tried. */
export interface Target {
  readonly name: string;
  /** which bytes, of whom */
  readonly summary: string;
  /** share of the inputs; 1 for what takes microseconds, less for what takes a process or a connection */
  readonly weight: number;
  /** inputs that are under way at a time; default 1 */
  readonly lanes?: number;
  /** why it cannot be tried here; undefined if it can */
  unavailable?(): string | undefined;
  start(): Promise<Subject>;
}

/** Fails unless it holds: the parser gave something that it must not give. */
export function ensure(condition: boolean, message: () => string): asserts condition {
  if (!condition) throw new Fault("wrong", message());
}

/** Defines a target with the type of its inputs checked. */
export const target = <T>(about: Omit<Target, "start">, start: () => Promise<Subject<T>> | Subject<T>): Target => ({
  ...about,
  start: async () => (await start()) as Subject,
});
