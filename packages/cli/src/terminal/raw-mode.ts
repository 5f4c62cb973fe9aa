import type { ReadStream, WriteStream } from "node:tty";

/**
 * What a full-screen program may have switched on and cannot switch off when the connection to it breaks:
 * alternate screen, mouse reports, bracketed paste, application keys, hidden cursor, colours. XTerm Control Sequences.
 */
const RESET_SEQUENCES = "\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[?25h\x1b[0m";

/** Raw mode of a terminal that ends on every path on which this process still runs code. */
export class RawMode {
  readonly #input: ReadStream;
  readonly #output: WriteStream;
  #active = false;
  readonly #restore = (): void => this.leave();
  readonly #reenter = (): void => {
    // A shell resets the terminal when it stops a job. Node caches the mode, so it must see both changes.
    this.#input.setRawMode(false);
    this.#input.setRawMode(true);
  };

  constructor(input: ReadStream, output: WriteStream) {
    this.#input = input;
    this.#output = output;
  }

  enter(): void {
    if (this.#active) return;
    this.#active = true;
    this.#input.setRawMode(true);
    // Every end that is not SIGKILL passes here: return, crash, process.exit() of a signal handler.
    process.on("exit", this.#restore);
    process.on("SIGCONT", this.#reenter);
  }

  /** @param resetScreen when the program on the other side had no chance to put the screen in order itself */
  leave(resetScreen = false): void {
    if (!this.#active) return;
    this.#active = false;
    process.off("exit", this.#restore);
    process.off("SIGCONT", this.#reenter);
    try {
      this.#input.setRawMode(false);
      if (resetScreen) this.#output.write(`${RESET_SEQUENCES}\r\n`);
    } catch {
      // The terminal itself has gone.
    }
  }
}
