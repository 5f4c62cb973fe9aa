import { type ChildProcess, spawn } from "node:child_process";
import { SPRITE_NETWORK } from "../config.ts";

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
        "--pid-file=/run/hob/dnsmasq.pid",
      ],
      ...["--bind-dynamic", `--interface=${outerName}`, "--except-interface=lo", "--cache-size=1000", "--no-negcache", "--log-facility=-"],
      ...this.#upstream.map((server) => `--server=${server}`),
    ];
  }
}
