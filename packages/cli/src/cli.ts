import type { HobClient } from "@hob/client";
import type { Environment, GlobalFlags } from "./config.ts";
import { type Style, styleFor } from "./output/style.ts";

/** Exit statuses of the CLI itself; a command in a sprite may end with any other. 141 = 128 + SIGPIPE, as a shell has it. */
export const EXIT = { ok: 0, failure: 1, usage: 2, brokenPipe: 141 } as const;

type HostProcess = Pick<NodeJS.Process, "env" | "stdin" | "stdout" | "stderr">;

/** The world outside as commands see it. */
export class Cli {
  /** styles for what goes to standard output, and to standard error */
  readonly style: Style;
  readonly noteStyle: Style;
  /** with which the process will end */
  exitStatus: number = EXIT.ok;
  /** runs before the process ends because the reader of its output has gone; undefined: it does not end for that */
  onBrokenPipe: (() => void) | undefined = () => {};
  readonly #process: HostProcess;

  constructor(process: HostProcess) {
    this.#process = process;
    this.style = styleFor(process.stdout, process.env);
    this.noteStyle = styleFor(process.stderr, process.env);
  }

  get env(): Environment {
    return this.#process.env;
  }

  /** Opened on first use: few commands read it. */
  get stdin(): HostProcess["stdin"] {
    return this.#process.stdin;
  }

  get stdout(): HostProcess["stdout"] {
    return this.#process.stdout;
  }

  get stderr(): HostProcess["stderr"] {
    return this.#process.stderr;
  }

  /** One line of the result. */
  print(line: string): void {
    this.stdout.write(`${line}\n`);
  }

  printJson(value: unknown): void {
    this.print(JSON.stringify(value, null, this.stdout.isTTY ? 2 : undefined));
  }

  /** One line for the person, beside the result. */
  note(line: string): void {
    this.stderr.write(`${line}\n`);
  }

  /** A client of the daemon that flags, environment or home directory name. */
  async client(flags: GlobalFlags): Promise<HobClient> {
    const [{ HobClient }, { resolveClientSettings }] = await Promise.all([import("@hob/client/client.ts"), import("./config.ts")]);
    return new HobClient(resolveClientSettings(flags, this.env));
  }
}
