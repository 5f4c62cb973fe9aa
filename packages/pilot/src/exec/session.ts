import { STREAM } from "@hob/protocol";
import type { HelperProcess, WindowSize } from "../helper/index.ts";
import type { AboutSession, Journal } from "./journal/index.ts";
import type { OutputReader, SessionClient } from "./output-reader.ts";
import { SessionOutput } from "./session-output.ts";
import { SIGNAL_NUMBERS } from "./signals.ts";

/** What clients may do with a session, whether it runs or has ended. */
export interface SessionView {
  readonly id: string;
  readonly about: AboutSession;
  readonly output: SessionOutput;
  /** bytes of standard input taken so far, from all clients */
  readonly inputOffset: number;
  /** bytes of it that are not yet on their way to the command */
  readonly pendingInputBytes: number;
  /** whether a client is the one that the session belongs to: the first, or the first after all had left */
  readonly hasOwner: boolean;
  attach(client: SessionClient, offset: number): OutputReader;
  detach(client: SessionClient): void;
  input(data: Uint8Array): void;
  endInput(): void;
  resize(size: WindowSize): void;
  /** as `resize`, and the program draws its screen anew even if the size is the same */
  redraw(size: WindowSize): void;
  signal(number: number): void;
  /** @param ms 0 = no limit */
  setMaxRunAfterDisconnect(ms: number): void;
}

export interface SessionOptions {
  readonly about: AboutSession;
  /** milliseconds to live on without a client; 0 = no limit */
  readonly maxRunAfterDisconnectMs: number;
  /** called when it writes, or a client does something */
  readonly onActivity?: (() => void) | undefined;
}

const STOPPED_MESSAGE = "hob: the sprite's container has stopped, and this command with it\r\n";
const LOST_MESSAGE = "hob: the connection to the command was lost inside the sprite\r\n";
/** After the container has stopped, its processes end at once; a session that has not noticed by then is ended here. */
const STOP_GRACE_MS = 2_000;
/** SIGHUP to SIGKILL. */
const HANG_UP_GRACE_MS = 5_000;
/** 128 + SIGKILL, which is how a container's processes die with it. */
const STOPPED_EXIT_CODE = 137;
/** No exit code is known; clients must not take it for success. */
export const LOST_EXIT_CODE = 255;

/** One running command, and those who are attached to it. */
export class Session implements SessionView {
  readonly id: string;
  readonly output: SessionOutput;
  readonly process: HelperProcess;
  /** called when the command has ended, before any client hears of it */
  onEnd: () => void = () => {};
  /** settles when the command has ended and that is in the journal; never rejects */
  readonly done: Promise<number>;
  /** the size of a terminal is that of the last resize */
  about: AboutSession;
  inputOffset = 0;
  #maxRunAfterDisconnectMs: number;
  /** the container has */
  #stopped = false;
  #ended = false;
  #isPaused = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(id: string, process: HelperProcess, options: SessionOptions, journal: Journal) {
    this.id = id;
    this.about = options.about;
    this.process = process;
    this.#maxRunAfterDisconnectMs = options.maxRunAfterDisconnectMs;
    this.output = new SessionOutput(journal);
    this.output.onActivity = options.onActivity ?? (() => {});
    this.output.onFlow = () => this.#flow();
    this.output.mayCut = () => this.output.readerCount > 1 || this.#maxRunAfterDisconnectMs === 0;
    process.onInputDrain(() => {
      for (const client of this.output.clients) client.inputDrained();
    });
    this.done = this.#run();
  }

  get pendingInputBytes(): number {
    return this.process.pendingInputBytes;
  }

  get hasOwner(): boolean {
    return this.output.readerCount > 0;
  }

  /** Takes output from the command from now on. */
  start(): void {
    this.process.start({
      stdout: (chunk) => this.output.append(STREAM.stdout, chunk),
      stderr: (chunk) => this.output.append(STREAM.stderr, chunk),
    });
  }

  attach(client: SessionClient, offset: number): OutputReader {
    if (!this.#stopped) clearTimeout(this.#timer);
    this.output.touch();
    return this.output.addReader(client, offset);
  }

  /** The command lives on without a client for as long as was asked, its input open: a client may come back. */
  detach(client: SessionClient): void {
    if (!this.output.removeReader(client) || this.output.readerCount > 0 || this.#stopped || this.#ended) return;
    if (this.#maxRunAfterDisconnectMs > 0) this.#after(this.#maxRunAfterDisconnectMs, () => this.#hangUp());
  }

  setMaxRunAfterDisconnect(ms: number): void {
    this.#maxRunAfterDisconnectMs = ms;
  }

  input(data: Uint8Array): void {
    this.inputOffset += data.length;
    this.output.touch();
    this.process.write(data);
  }

  /** A terminal has no end of input. */
  endInput(): void {
    if (this.about.tty === undefined) this.process.end();
  }

  resize(size: WindowSize): void {
    if (this.about.tty === undefined) return;
    this.about = { ...this.about, tty: { cols: size.cols, rows: size.rows } };
    this.process.resize(size);
  }

  /** The kernel sends SIGWINCH only for a size that is new, ioctl_tty(2). */
  redraw(size: WindowSize): void {
    const before = this.about.tty;
    this.resize(size);
    if (before?.cols === size.cols && before.rows === size.rows) this.process.signal(SIGNAL_NUMBERS.SIGWINCH);
  }

  signal(number: number): void {
    this.process.signal(number);
  }

  /** The container has stopped: the command is dead or dying. */
  containerStopped(): void {
    if (this.#ended) return;
    this.#stopped = true;
    this.#after(STOP_GRACE_MS, () => this.process.close());
  }

  /** As a terminal that is closed: SIGHUP, later SIGKILL, and last the supervisor itself is given up. */
  #hangUp(): void {
    this.#explain(`hob: no client came back within ${this.#maxRunAfterDisconnectMs / 1_000} s, hanging up\r\n`);
    this.process.endAll(SIGNAL_NUMBERS.SIGHUP);
    this.#after(HANG_UP_GRACE_MS, () => {
      this.process.endAll(SIGNAL_NUMBERS.SIGKILL);
      this.#after(HANG_UP_GRACE_MS, () => this.process.close());
    });
  }

  #after(ms: number, action: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(action, ms);
  }

  #flow(): void {
    const isFull = this.output.isFull;
    if (isFull === this.#isPaused) return;
    this.#isPaused = isFull;
    if (isFull) this.process.pause();
    else this.process.resume();
  }

  async #run(): Promise<number> {
    const code = await this.process.exited.then(
      (exit) => {
        if (exit.containerGone) this.#stopped = true;
        return exit.code;
      },
      () => {
        if (!this.#stopped) this.#explain(LOST_MESSAGE);
        return LOST_EXIT_CODE;
      },
    );
    this.#ended = true;
    clearTimeout(this.#timer);
    if (this.#stopped) this.#explain(STOPPED_MESSAGE);
    const reported = this.#stopped ? STOPPED_EXIT_CODE : code;
    this.onEnd();
    await this.output.finish(reported);
    return reported;
  }

  #explain(message: string): void {
    if (this.about.tty === undefined) this.output.append(STREAM.stderr, Buffer.from(message.replace("\r\n", "\n")));
    else this.output.append(STREAM.stdout, Buffer.from(message));
  }
}

/** A session of which only the journal is left: a pilot before this one ran it. */
export class PastSession implements SessionView {
  readonly id: string;
  readonly about: AboutSession;
  readonly output: SessionOutput;
  readonly inputOffset = 0;
  readonly pendingInputBytes = 0;
  readonly hasOwner = false;

  constructor(id: string, about: AboutSession, journal: Journal) {
    this.id = id;
    this.about = about;
    this.output = new SessionOutput(journal);
  }

  /** Ends it, if its pilot had no time to do so. */
  async finish(): Promise<void> {
    if (this.output.journal.exitCode !== undefined) return;
    const message = "hob: the sprite's platform was restarted, and this command ended with it\r\n";
    if (this.about.tty === undefined) this.output.append(STREAM.stderr, Buffer.from(message.replace("\r\n", "\n")));
    else this.output.append(STREAM.stdout, Buffer.from(message));
    await this.output.finish(LOST_EXIT_CODE);
  }

  attach(client: SessionClient, offset: number): OutputReader {
    return this.output.addReader(client, offset);
  }

  detach(client: SessionClient): void {
    this.output.removeReader(client);
  }

  input(): void {}
  endInput(): void {}
  resize(): void {}
  redraw(): void {}
  signal(): void {}
  setMaxRunAfterDisconnect(): void {}
}
