import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Forward, HobClient, PortWatch } from "@hob/client";
import { HobError } from "@hob/protocol/errors.ts";
import type { Cli } from "../cli.ts";
import { ScreenWatch } from "./screen-watch.ts";

/** Pause before a watch whose connection broke is begun again: doubled each time, up to the second figure. */
const RETRY_MS = [500, 10_000] as const;

export interface PortForwarderOptions {
  /** whether ports that are open already are meant too, as where a person comes back to what they started */
  existing?: boolean;
}

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
  /** ports whose local side is being opened */
  readonly #opening = new Set<number>();
  /** ports that are open inside; undefined until the first list */
  #open: Set<number> | undefined;
  #waiting: string[] = [];
  #watch: PortWatch | undefined;
  readonly #ended = new AbortController();

  constructor(cli: Cli, client: HobClient, name: string, { existing = false }: PortForwarderOptions = {}) {
    this.#cli = cli;
    this.#client = client;
    this.#name = name;
    if (existing) this.#open = new Set();
    void this.#run();
  }

  /** @param output of the session's terminal */
  watchScreen(output: Readable): void {
    output.on("data", (chunk: Buffer) => {
      this.#screen.see(chunk);
      if (this.#waiting.length > 0 && !this.#screen.isFullScreen) this.#flush();
    });
  }

  /** The session does not depend on it: what cannot be had by waiting is left. */
  async #run(): Promise<void> {
    let pauseMs: number = RETRY_MS[0];
    while (!this.#ended.signal.aborted) {
      try {
        await this.#watchOnce();
        pauseMs = RETRY_MS[0];
      } catch (error) {
        // A watch has no effect: it may be begun twice.
        if (!(error instanceof HobError && (error.retryable || error.code === "outcome_unknown"))) return;
      }
      await sleep(pauseMs, undefined, { signal: this.#ended.signal, ref: false }).catch(() => {});
      pauseMs = Math.min(pauseMs * 2, RETRY_MS[1]);
    }
  }

  /** Resolves when a watch that was begun has ended. */
  async #watchOnce(): Promise<void> {
    using watch = await this.#client.watchPorts(this.#name, {
      list: (ports) => this.#onList(new Set(ports.map(({ port }) => port))),
      opened: ({ port }) => void this.#onOpened(port),
      closed: ({ port }) => this.#onClosed(port),
    });
    if (this.#ended.signal.aborted) return;
    this.#watch = watch;
    await watch.ended.catch(() => {});
  }

  /** The first list says what was open before, a later one what has changed while nobody watched. */
  #onList(ports: ReadonlySet<number>): void {
    const before = this.#open;
    if (before === undefined) {
      this.#open = new Set(ports);
      return;
    }
    for (const port of [...before]) if (!ports.has(port)) this.#onClosed(port);
    for (const port of ports) if (!before.has(port)) void this.#onOpened(port);
  }

  async #onOpened(port: number): Promise<void> {
    this.#open ??= new Set();
    this.#open.add(port);
    if (this.#opening.has(port)) return;
    this.#opening.add(port);
    try {
      const forward = await this.#client.forwardPort(this.#name, { localPort: port, target: { port } });
      if (this.#ended.signal.aborted || !this.#open.has(port)) return forward[Symbol.dispose]();
      this.#forwards.set(port, forward);
      this.#say(`port ${port} of ${this.#name} is at http://127.0.0.1:${port}`);
    } catch (error) {
      const why =
        error instanceof HobError && error.code === "address_in_use" ? "the local port is taken" : "the local port cannot be used";
      this.#say(`port ${port} of ${this.#name} is open, but ${why}: 'hob proxy ${this.#name} LOCAL:${port}' uses another`);
    } finally {
      this.#opening.delete(port);
    }
  }

  #onClosed(port: number): void {
    this.#open?.delete(port);
    this.#forwards.get(port)?.[Symbol.dispose]();
    this.#forwards.delete(port);
  }

  #say(message: string): void {
    if (this.#ended.signal.aborted) return;
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
    this.#ended.abort();
    this.#watch?.[Symbol.dispose]();
    for (const forward of this.#forwards.values()) forward[Symbol.dispose]();
    this.#forwards.clear();
  }
}
