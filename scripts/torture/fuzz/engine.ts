import { inspect } from "node:util";
import { Random } from "../../../packages/storage/test/support/random.ts";
import { held, leakBetween } from "./leaks.ts";
import { Fault, type FaultKind, type Subject, type Target } from "./target.ts";

/** Milliseconds after which an input counts as one that hangs: far more than any takes on a machine that others use too. */
const HANG_MS = 30_000;
/**
 * Processor time, in milliseconds, for which an input may hold up everybody else: inputs of half a megabyte take some ten.
 * Time of this thread alone, so that other work on the machine does not count.
 */
const BUSY_MS = 1_500;
/** Inputs between two turns of the event loop, in which rejections that nobody handled show. */
const TURN = 64;
const FAULTS_KEPT = 20;
const SHOWN_CHARACTERS = 2_000;

export interface FoundFault {
  readonly kind: FaultKind;
  /** of the input; of a fault that came later, the newest one then. -1: of all together */
  readonly index: number;
  readonly message: string;
  readonly input: string;
}

export interface TargetReport {
  readonly name: string;
  readonly inputs: number;
  readonly accepted: number;
  readonly refused: number;
  readonly seconds: number;
  readonly faults: readonly FoundFault[];
}

export interface RunOptions {
  readonly seed: number;
  readonly inputs: number;
  /** this one only */
  readonly only?: number | undefined;
  /** looked at for leaks; false where others share the process */
  readonly leaks: boolean;
  /** told each index before its input is given */
  readonly onInput?: (index: number) => void;
  readonly hangMs?: number;
}

/** Random numbers of one input alone: what it is does not depend on those before it. */
export function randomFor(seed: number, name: string, index: number): Random {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(`${seed}/${name}/${index}`)) hash = Math.imul(hash ^ byte, 0x01000193);
  return new Random(hash);
}

/** Tries one target. What goes wrong is in the report, and nothing is thrown. */
export async function runTarget(target: Target, options: RunOptions): Promise<TargetReport> {
  const run = new TargetRun(target, options);
  const onError = (error: unknown) => run.note("crash", new Error("an error that nobody handled", { cause: error }));
  process.on("uncaughtException", onError).on("unhandledRejection", onError);
  try {
    await run.whole();
  } finally {
    process.off("uncaughtException", onError).off("unhandledRejection", onError);
  }
  return run.report();
}

class TargetRun {
  readonly #target: Target;
  readonly #options: RunOptions;
  readonly #faults: FoundFault[] = [];
  readonly #counts = { accepted: 0, refused: 0 };
  #inputs = 0;
  #milliseconds = 0;
  #index = -1;
  #input: unknown;

  constructor(target: Target, options: RunOptions) {
    this.#target = target;
    this.#options = options;
  }

  report(): TargetReport {
    const { name } = this.#target;
    return { name, inputs: this.#inputs, ...this.#counts, seconds: this.#milliseconds / 1_000, faults: this.#faults };
  }

  note(kind: FaultKind, error: unknown, index = this.#index, input = this.#input): void {
    if (this.#faults.length >= FAULTS_KEPT) return;
    const message = inspect(error, { depth: 4 }).slice(0, SHOWN_CHARACTERS);
    this.#faults.push({ kind: error instanceof Fault ? error.kind : kind, index, message, input: shown(input) });
  }

  async whole(): Promise<void> {
    const subject = await this.#target.start();
    try {
      const { only, inputs, leaks } = this.#options;
      if (only !== undefined) await this.#range(subject, only, only + 1);
      else if (leaks) await this.#lookingForLeaks(subject, inputs);
      else await this.#range(subject, 0, inputs);
    } finally {
      await subject[Symbol.asyncDispose]?.();
    }
  }

  /** The first half makes everything that is made once, so what the second half leaves is left by its inputs. */
  async #lookingForLeaks(subject: Subject, inputs: number): Promise<void> {
    const half = Math.floor(inputs / 2);
    await this.#range(subject, 0, half);
    const heldBefore = await subject.settle?.();
    const before = await held();
    await this.#range(subject, half, inputs);
    const heldAfter = await subject.settle?.();
    const after = await held(before.resources);
    const leak = leakBetween(before, after, inputs - half);
    if (leak !== undefined) this.note("leak", new Fault("leak", leak), -1, undefined);
    if ((heldAfter ?? 0) > (heldBefore ?? 0)) {
      this.note("leak", new Fault("leak", `${heldAfter} held by the subject, ${heldBefore} before`), -1, undefined);
    }
  }

  async #range(subject: Subject, from: number, to: number): Promise<void> {
    const start = performance.now();
    using _ = watchLoop((busyMs) => this.note("hang", new Fault("hang", `${Math.round(busyMs)} ms of work at once, at the latest inputs`)));
    let next = from;
    const lane = async () => {
      while (next < to && this.#faults.length < FAULTS_KEPT) {
        const index = next++;
        await this.#one(subject, index);
        if (index % TURN === 0) await new Promise((resolve) => setImmediate(resolve));
      }
    };
    await Promise.all(Array.from({ length: this.#target.lanes ?? 1 }, lane));
    // Rejections and events that the last inputs caused.
    await new Promise((resolve) => setImmediate(resolve));
    this.#milliseconds += performance.now() - start;
  }

  async #one(subject: Subject, index: number): Promise<void> {
    const { seed, hangMs = HANG_MS, onInput } = this.#options;
    onInput?.(index);
    const input = subject.input(randomFor(seed, this.#target.name, index));
    this.#index = index;
    this.#input = input;
    const start = processorMs();
    try {
      const verdict = subject.run(input);
      const busyMs = processorMs() - start;
      this.#counts[typeof verdict === "string" ? verdict : await bounded(verdict, hangMs)]++;
      if (busyMs > BUSY_MS) throw new Fault("hang", `${Math.round(busyMs)} ms of work`);
    } catch (error) {
      this.note("crash", error, index, input);
    }
    this.#inputs++;
  }
}

const processorMs = (): number => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
};

/** Tells when everything else had to wait for some piece of work, whoever began it. */
function watchLoop(onBusy: (busyMs: number) => void): Disposable {
  let last = processorMs();
  const timer = setInterval(() => {
    const now = processorMs();
    if (now - last > 2 * BUSY_MS) onBusy(now - last);
    last = now;
  }, 50);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

function bounded<T>(work: Promise<T>, ms: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Fault("hang", `no end within ${ms} ms`)), ms);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

const shown = (input: unknown): string =>
  inspect(legible(input), { depth: 8, maxStringLength: SHOWN_CHARACTERS, maxArrayLength: 50 }).slice(0, SHOWN_CHARACTERS);

/** Bytes as text, wherever they are. */
function legible(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return value.toString("latin1");
  if (Array.isArray(value)) return value.map(legible);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, legible(item)]));
}
