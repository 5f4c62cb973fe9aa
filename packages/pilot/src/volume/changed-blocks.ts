import { HobError } from "@hob/protocol";
import type { HelperClient, HelperProcess } from "../helper/index.ts";
import { type ChangedRange, ThinXmlReader } from "./thin-delta.ts";

type Helper = Pick<HelperClient, "dmMessage" | "exec">;

/**
 * Ranges read ahead of the consumer, some 100 bytes each, before the tool has to wait. Those of most volumes are fewer: an upload
 * that takes minutes keeps nobody from reading others.
 */
const BUFFERED_RANGES = 65_536;
const STDERR_KEPT_CHARACTERS = 1_000;
/** A tool that says nothing for so long is ended. All that it says may take as long as an upload. */
const SILENCE_MS_MAX = 600_000;

/**
 * What changed between snapshots, from the pool's metadata while the pool is in use: the kernel keeps one state of the
 * metadata aside, and thin_delta(8) and thin_dump(8) read that. There is only one place for it, so calls take turns.
 */
export class ChangedBlocks {
  /** block device of the pool's metadata */
  metadataDevice = "";
  readonly #helper: Helper;
  readonly #pool: string;
  #turn: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(helper: Helper, pool: string) {
    this.#helper = helper;
    this.#pool = pool;
  }

  /** Whether who asks now has to wait until those before have read all that they want. */
  get isBusy(): boolean {
    return this.#waiting > 0;
  }

  async *between(from: number | undefined, to: number): AsyncGenerator<ChangedRange, void, undefined> {
    const before = this.#turn;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turn = promise;
    this.#waiting++;
    await before;
    let ending: Promise<void> | undefined;
    const end = () => {
      ending ??= this.release().then(() => {
        this.#waiting--;
        resolve();
      });
      return ending;
    };
    try {
      await this.release();
      await this.#helper.dmMessage(this.#pool, "reserve_metadata_snap");
      yield* this.#read(from, to, end);
    } finally {
      await end();
    }
  }

  /** Lets go of the state that is kept aside; none is no error. */
  async release(): Promise<void> {
    await this.#helper.dmMessage(this.#pool, "release_metadata_snap").catch(() => {});
  }

  /** @param onEnd called when the tool has ended, which may be long before all that it wrote was taken */
  async *#read(from: number | undefined, to: number, onEnd: () => Promise<void>): AsyncGenerator<ChangedRange, void, undefined> {
    const compare = ["thin_delta", "--metadata-snap", "--thin1", String(from), "--thin2", String(to), this.metadataDevice];
    const dump = ["thin_dump", "--metadata-snap", "--dev-id", String(to), this.metadataDevice];
    const tool = from === undefined ? dump : compare;
    // It reads all mappings of both, half a second at 8 GB under emulation, and often beside something that somebody waits for.
    const argv = ["nice", "-n", "10", ...tool];
    const process = await this.#helper.exec({ argv, env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" }, cwd: "/", uid: 0, gid: 0 });
    const stream = new RangeStream(process);
    const timer = setInterval(() => stream.hasComeOn() || process.close(), SILENCE_MS_MAX);
    process.exited.then(onEnd, onEnd);
    try {
      yield* stream.ranges(tool[0] ?? "");
    } finally {
      clearInterval(timer);
      process.close();
    }
  }
}

/** Turns what a process writes into ranges, no faster than they are taken. */
class RangeStream {
  readonly #process: HelperProcess;
  readonly #reader = new ThinXmlReader();
  /** those before `#taken` were taken; to remove each from so long an array would move all others */
  #queue: ChangedRange[] = [];
  #taken = 0;
  #stderr = "";
  #failure: unknown;
  #exitCode: number | undefined;
  #isPaused = false;
  #hasSaid = false;
  #wake: () => void = () => {};

  constructor(process: HelperProcess) {
    this.#process = process;
    process.start({ stdout: (chunk) => this.#take(chunk), stderr: (chunk) => this.#note(chunk) });
    process.end();
    process.exited.then(
      ({ code }) => this.#end(code, undefined),
      (error) => this.#end(-1, error),
    );
  }

  /** Whether it has said something since this was asked before, or may not say more. */
  hasComeOn(): boolean {
    const comesOn = this.#hasSaid || this.#isPaused;
    this.#hasSaid = false;
    return comesOn;
  }

  async *ranges(program: string): AsyncGenerator<ChangedRange, void, undefined> {
    for (;;) {
      const range = this.#queue[this.#taken];
      if (range !== undefined) {
        this.#taken++;
        yield range;
        continue;
      }
      this.#queue = [];
      this.#taken = 0;
      if (this.#isPaused) this.#pause(false);
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#exitCode !== undefined) break;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#exitCode !== 0 || !this.#reader.complete) {
      throw new HobError("command_failed", `read the changes between snapshots: ${program} ended with ${this.#exitCode}: ${this.#stderr}`);
    }
  }

  #take(chunk: Buffer): void {
    this.#hasSaid = true;
    try {
      this.#queue.push(...this.#reader.push(chunk.toString("latin1")));
    } catch (error) {
      this.#failure = error;
    }
    if (this.#queue.length > BUFFERED_RANGES) this.#pause(true);
    this.#wake();
  }

  #pause(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (isPaused) this.#process.pause();
    else this.#process.resume();
  }

  #note(chunk: Buffer): void {
    this.#stderr = (this.#stderr + chunk.toString("utf8")).slice(-STDERR_KEPT_CHARACTERS);
  }

  #end(code: number, failure: unknown): void {
    this.#exitCode = code;
    this.#failure ??= failure;
    this.#wake();
  }
}
