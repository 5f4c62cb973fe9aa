import { type ChildProcess, spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { HobError } from "@hob/protocol";
import { QueryLog, type ResolverEvent } from "./query-log.ts";
import { resolverConfig } from "./resolver-config.ts";
import type { CompiledRules } from "./rules.ts";

const RESTART_DELAY_MS = 1_000;
const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 5_000;

export interface ResolverFiles {
  config: string;
  pid: string;
}

export const RESOLVER_FILES: ResolverFiles = { config: "/run/hob/dnsmasq.conf", pid: "/run/hob/dnsmasq.pid" };

/** dnsmasq(8) as the sprite's resolver, on the gateway addresses of the sprite's network. */
export class Resolver {
  readonly #upstream: readonly string[];
  readonly #files: ResolverFiles;
  readonly #command: readonly [string, ...string[]];
  #listener: (event: ResolverEvent) => void = () => {};
  #process: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #wanted = false;

  /** @param command starts dnsmasq; tests start it in a network of their own */
  constructor(upstream: readonly string[], files = RESOLVER_FILES, command: readonly [string, ...string[]] = ["dnsmasq"]) {
    this.#upstream = upstream;
    this.#files = files;
    this.#command = command;
  }

  /** Told of every query and answer from now on, in order. */
  onEvent(listener: (event: ResolverEvent) => void): void {
    this.#listener = listener;
  }

  /**
   * Starts it with these rules, in place of the one that runs; without rules it answers every name.
   * @throws HobError `command_failed` if it does not come up; it is then tried again until `stop`
   */
  async start(rules?: CompiledRules): Promise<void> {
    await this.stop();
    await writeFile(this.#files.config, resolverConfig({ upstream: this.#upstream, rules, pidFile: this.#files.pid }), { mode: 0o600 });
    this.#wanted = true;
    await this.#launch();
  }

  /** Ends it. When this returns, all that it logged has been told. */
  async stop(): Promise<void> {
    this.#wanted = false;
    const child = this.#process;
    child?.kill("SIGTERM");
    const timer = setTimeout(() => child?.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  /** Ends the resolver of a pilot that died; its successor needs the addresses. */
  async endPredecessor(): Promise<void> {
    const pid = Number(await readFile(this.#files.pid, "utf8").catch(() => ""));
    const name = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "");
    if (pid > 1 && name.trim() === "dnsmasq") process.kill(pid, "SIGKILL");
  }

  #launch(): Promise<void> {
    const [program, ...args] = this.#command;
    const child = spawn(program, [...args, "--keep-in-foreground", `--conf-file=${this.#files.config}`], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#process = child;
    this.#ended = new Promise<void>((resolve) => {
      // After the last line of its log; `error` comes alone when the program could not be started.
      child.once("close", () => resolve());
      child.once("error", () => resolve());
    }).then(() => {
      if (this.#process === child) this.#process = undefined;
      if (this.#wanted && this.#process === undefined) setTimeout(() => this.#revive(), RESTART_DELAY_MS).unref();
    });
    const started = this.#readLog(child);
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(failed(`not ready after ${START_TIMEOUT_MS} ms`)), START_TIMEOUT_MS);
      started.then(resolve);
      void this.#ended.then(() => reject(failed("it ended at once")));
      void Promise.race([started, this.#ended]).then(() => clearTimeout(late));
    });
  }

  #revive(): void {
    if (this.#wanted && this.#process === undefined) this.#launch().catch(() => {});
  }

  /** Resolves when it says that it has started. */
  #readLog(child: ChildProcess): Promise<void> {
    return new Promise((resolve) => {
      if (child.stderr === null) return;
      const log = new QueryLog();
      createInterface({ input: child.stderr, crlfDelay: Number.POSITIVE_INFINITY }).on("line", (line) => {
        const event = log.read(line);
        if (event?.kind === "started") resolve();
        if (event !== undefined) this.#listener(event);
      });
    });
  }
}

const failed = (what: string): HobError => new HobError("command_failed", `start the sprite's resolver: ${what}`);
