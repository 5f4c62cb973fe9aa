import { spawnSync } from "node:child_process";
import type { ReadStream, WriteStream } from "node:tty";

/**
 * What a full-screen program may have switched on and cannot switch off when the connection to it breaks:
 * alternate screen, mouse reports, bracketed paste, application keys, hidden cursor, colours. XTerm Control Sequences.
 */
const RESET_SEQUENCES = "\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[?25h\x1b[0m";

const STTY_TIMEOUT_MS = 2_000;

/** Raw mode of a terminal that ends on every path on which this process still runs code. */
export class RawMode {
  readonly #input: ReadStream;
  readonly #output: WriteStream;
  #active = false;
  readonly #restore = (): void => this.leave();
  readonly #reenter = (): void => {
    // A shell resets the terminal when it stops a job. Node keeps the mode in mind, so it must see both changes.
    this.#input.setRawMode(false);
    this.#makeRaw();
  };

  constructor(input: ReadStream, output: WriteStream) {
    this.#input = input;
    this.#output = output;
  }

  enter(): void {
    if (this.#active) return;
    this.#active = true;
    this.#makeRaw();
    // Every end that is not SIGKILL passes here: return, crash, process.exit() of a signal handler.
    process.on("exit", this.#restore);
    process.on("SIGCONT", this.#reenter);
  }

  /**
   * Node's raw mode still turns each line feed of the output into carriage return and line feed. A full-screen program
   * moves the cursor straight down by a line feed, and has made sure of it on its own terminal: so here as well. Node has
   * no way to say that, stty(1) has. Leaving restores all settings as they were before, these too.
   */
  #makeRaw(): void {
    this.#input.setRawMode(true);
    spawnSync("stty", ["-opost"], { stdio: [this.#input as ReadStream & { fd: number }, "ignore", "ignore"], timeout: STTY_TIMEOUT_MS });
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
