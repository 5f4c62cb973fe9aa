import { type ChildProcess, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { SPRITE_NETWORK } from "../config.ts";

const PID_FILE = "/run/hob/dnsmasq.pid";
const RESTART_DELAY_MS = 1_000;

/**
 * dnsmasq(8) as the sprite's resolver, on the gateway addresses of the sprite's network. `--bind-dynamic` lets the
 * interface come and go with the inner container.
 */
export class Resolver {
  readonly #upstream: readonly string[];
  #process: ChildProcess | undefined;
  #stopped = false;

  constructor(upstream: readonly string[]) {
    this.#upstream = upstream;
  }

  start(): void {
    this.#process = spawn("dnsmasq", this.#arguments(), { stdio: ["ignore", "inherit", "inherit"] });
    this.#process.once("error", () => {});
    this.#process.once("exit", () => {
      if (!this.#stopped) setTimeout(() => this.start(), RESTART_DELAY_MS).unref();
    });
  }

  /** Ends the resolver of a pilot that died; its successor needs the addresses. */
  async endPredecessor(): Promise<void> {
    const pid = Number(await readFile(PID_FILE, "utf8").catch(() => ""));
    const name = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "");
    if (pid > 1 && name.trim() === "dnsmasq") process.kill(pid, "SIGKILL");
  }

  stop(): void {
    this.#stopped = true;
    this.#process?.kill("SIGTERM");
  }

  #arguments(): string[] {
    const { outerName } = SPRITE_NETWORK;
    return [
      ...[
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--no-poll",
        "--user=root",
        `--pid-file=${PID_FILE}`,
      ],
      ...["--bind-dynamic", `--interface=${outerName}`, "--except-interface=lo", "--cache-size=1000", "--no-negcache", "--log-facility=-"],
      ...this.#upstream.map((server) => `--server=${server}`),
    ];
  }
}
