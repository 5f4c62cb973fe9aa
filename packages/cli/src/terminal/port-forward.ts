import type { Readable } from "node:stream";
import type { Forward, HobClient, PortWatch } from "@hob/client";
import { HobError } from "@hob/protocol/errors.ts";
import type { Cli } from "../cli.ts";
import { ScreenWatch } from "./screen-watch.ts";

/**
 * Makes each port that is opened inside while a terminal session lasts reachable at the same local port. What it has to
 * say waits while a full-screen program has the screen, and stands on a line of its own.
 */
export class PortForwarder implements Disposable {
  readonly #cli: Cli;
  readonly #client: HobClient;
  readonly #name: string;
  readonly #screen = new ScreenWatch();
  readonly #forwards = new Map<number, Forward>();
  /** ports that are open inside */
  readonly #open = new Set<number>();
  #waiting: string[] = [];
  #watch: PortWatch | undefined;
  #ended = false;

  constructor(cli: Cli, client: HobClient, name: string) {
    this.#cli = cli;
    this.#client = client;
    this.#name = name;
    // The session does not depend on it: a server without this route just forwards nothing.
    this.#start().catch(() => {});
  }

  /** @param output of the session's terminal */
  watchScreen(output: Readable): void {
    output.on("data", (chunk: Buffer) => {
      this.#screen.see(chunk);
      if (this.#waiting.length > 0 && !this.#screen.isFullScreen) this.#flush();
    });
  }

  async #start(): Promise<void> {
    const watch = await this.#client.watchPorts(this.#name, {
      opened: ({ port }) => void this.#onOpened(port),
      closed: ({ port }) => this.#onClosed(port),
    });
    if (this.#ended) watch[Symbol.dispose]();
    else this.#watch = watch;
  }

  async #onOpened(port: number): Promise<void> {
    this.#open.add(port);
    try {
      const forward = await this.#client.forwardPort(this.#name, { localPort: port, target: { port } });
      if (this.#ended || !this.#open.has(port)) return forward[Symbol.dispose]();
      this.#forwards.set(port, forward);
      this.#say(`port ${port} of ${this.#name} is at http://127.0.0.1:${port}`);
    } catch (error) {
      const why =
        error instanceof HobError && error.code === "address_in_use" ? "the local port is taken" : "the local port cannot be used";
      this.#say(`port ${port} of ${this.#name} is open, but ${why}: 'hob proxy ${this.#name} LOCAL:${port}' uses another`);
    }
  }

  #onClosed(port: number): void {
    this.#open.delete(port);
    this.#forwards.get(port)?.[Symbol.dispose]();
    this.#forwards.delete(port);
  }

  #say(message: string): void {
    if (this.#ended) return;
    this.#waiting.push(message);
    if (!this.#screen.isFullScreen) this.#flush();
  }

  /** A terminal in raw mode needs the carriage return to begin a line. */
  #flush(): void {
    const { dim } = this.#cli.noteStyle;
    const newline = this.#cli.stderr.isTTY ? "\r\n" : "\n";
    for (const message of this.#waiting) this.#cli.stderr.write(`${newline === "\n" ? "" : newline}${dim(`hob: ${message}`)}${newline}`);
    this.#waiting = [];
  }

  [Symbol.dispose](): void {
    this.#ended = true;
    this.#watch?.[Symbol.dispose]();
    for (const forward of this.#forwards.values()) forward[Symbol.dispose]();
    this.#forwards.clear();
  }
}
