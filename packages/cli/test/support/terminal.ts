import { type IPty, spawn } from "@lydell/node-pty";

const WAIT_TIMEOUT_MS = 15_000;

/** A program on a real pseudo-terminal, as a person's terminal window runs it. */
export class TestTerminal implements Disposable {
  readonly #pty: IPty;
  readonly exited: Promise<number>;
  output = "";
  #onOutput: () => void = () => {};
  #ended = false;

  constructor(argv: readonly string[], env: Record<string, string>, size = { cols: 90, rows: 30 }) {
    const [program = "sh", ...args] = argv;
    this.#pty = spawn(program, args, { ...size, name: "xterm-256color", env: { ...env, TERM: "xterm-256color" } });
    this.#pty.onData((data) => {
      this.output += data;
      this.#onOutput();
    });
    this.exited = new Promise((resolve) =>
      this.#pty.onExit(({ exitCode }) => {
        this.#ended = true;
        resolve(exitCode);
      }),
    );
  }

  type(text: string): void {
    this.#pty.write(text);
  }

  resize(cols: number, rows: number): void {
    this.#pty.resize(cols, rows);
  }

  /** Resolves when the output matches from `from` on. @throws with the whole output when it does not in time */
  waitFor(pattern: RegExp, from = 0): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ${pattern} in: ${JSON.stringify(this.output)}`)), WAIT_TIMEOUT_MS);
      this.#onOutput = () => {
        const match = pattern.exec(this.output.slice(from));
        if (match === null) return;
        clearTimeout(timer);
        this.#onOutput = () => {};
        resolve(match);
      };
      this.#onOutput();
    });
  }

  [Symbol.dispose](): void {
    if (!this.#ended) this.#pty.kill("SIGKILL");
  }
}
