import type { Row } from "./stats.ts";

/** What a part of the benchmark gets to work with. */
export interface BenchContext {
  /** few rounds: shows that it works, and gives a figure */
  readonly quick: boolean;
  /** folder for states of a volume, shared by the parts `amplification` and `chunks` */
  readonly states: string | undefined;
  /** One line of what is being done. @throws when the part has been given up: what it goes on with has nobody to end it */
  progress(text: string): void;
  /** Called when the part is over, whatever came of it; the last that was added first. */
  defer(cleanUp: () => Promise<void> | void): void;
}

export interface PartResult {
  rows: Row[];
  /** a table of its own, in Markdown */
  appendix?: string;
}

/** One subject of the benchmark, which can be run by itself. */
export interface Part {
  name: string;
  title: string;
  /** minutes that it may take, quick and in full; the second is for a machine that does nothing else */
  boundMinutes: { quick: number; full: number };
  run(context: BenchContext): Promise<Row[] | PartResult>;
}

export class PartFailed extends Error {}

export interface RunOptions {
  quick: boolean;
  states?: string | undefined;
  progress: (text: string) => void;
  /** when aborted, the part is given up with this reason, and cleaned up after */
  signal: AbortSignal;
}

/** Runs a part within its bound, and cleans up after it. @throws PartFailed with the part's name */
export async function runPart(part: Part, { quick, states, progress, signal }: RunOptions): Promise<PartResult> {
  const minutes = quick ? part.boundMinutes.quick : part.boundMinutes.full;
  const given = Promise.withResolvers<never>();
  const timer = setTimeout(() => given.reject(new Error(`not done after ${minutes} minutes`)), minutes * 60_000);
  const giveUp = () => given.reject(signal.reason);
  signal.addEventListener("abort", giveUp, { once: true });
  if (signal.aborted) giveUp();
  try {
    await using resources = new AsyncDisposableStack();
    const context: BenchContext = {
      quick,
      states,
      defer: (cleanUp) => resources.defer(async () => cleanUp()),
      progress: (text) => {
        if (resources.disposed) throw new Error("given up");
        progress(text);
      },
    };
    const result = await Promise.race([part.run(context), given.promise]);
    return Array.isArray(result) ? { rows: result } : result;
  } catch (error) {
    const cause = error instanceof SuppressedError ? error.suppressed : error;
    throw new PartFailed(`${part.name}: ${(cause as Error).message}`, { cause });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", giveUp);
    given.promise.catch(() => {});
  }
}
