import { request, type Server } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { PILOT_ROUTES, RELAY } from "@hob/protocol";
import type { Logger } from "pino";
import type { PilotEndpoint } from "../runtime/sprite-runtime.ts";

const FIRST_DELAY_MS = 50;
const LAST_DELAY_MS = 5_000;
const DIAL_TIMEOUT_MS = 10_000;
/** A connection that lasted this long was a good one: the next is dialled at once. */
const GOOD_MS = 5_000;

/**
 * Keeps connections to one pilot open on which the pilot asks and `server` answers, until disposed. A pilot that does not
 * answer is dialled again with growing delays: it may be starting.
 */
export class RelayDialer implements Disposable {
  readonly #endpoint: () => PilotEndpoint;
  readonly #server: Server;
  readonly #log: Pick<Logger, "debug">;
  readonly #start: string;
  readonly #stop = new AbortController();

  /**
   * @param endpoint asked before each dial: the token changes when a template becomes a sprite
   * @param start names the start of the VM
   */
  constructor(endpoint: () => PilotEndpoint, start: string, server: Server, log: Pick<Logger, "debug">) {
    this.#start = start;
    this.#endpoint = endpoint;
    this.#server = server;
    this.#log = log;
    for (let i = 0; i < RELAY.connections; i++) void this.#keep();
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
  }

  async #keep(): Promise<void> {
    const { signal } = this.#stop;
    let delayMs = FIRST_DELAY_MS;
    while (!signal.aborted) {
      const start = performance.now();
      await this.#hold().catch((error: unknown) => this.#log.debug({ err: error }, "relay: not connected"));
      delayMs = performance.now() - start > GOOD_MS ? FIRST_DELAY_MS : Math.min(delayMs * 2, LAST_DELAY_MS);
      await sleep(delayMs, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  /** Dials once, and resolves when the connection has ended. */
  #hold(): Promise<void> {
    const { host, port, token } = this.#endpoint();
    const { signal } = this.#stop;
    return new Promise((resolve, reject) => {
      const headers = { Connection: "Upgrade", Upgrade: RELAY.upgrade, Authorization: `Bearer ${token}`, [RELAY.startHeader]: this.#start };
      const outgoing = request({ host, port, path: PILOT_ROUTES.relay, headers, agent: false, signal, timeout: DIAL_TIMEOUT_MS });
      outgoing.once("timeout", () => outgoing.destroy(new Error("no answer")));
      outgoing.once("error", reject);
      outgoing.once("response", (response) => {
        response.destroy();
        reject(new Error(`the pilot answered ${response.statusCode}`));
      });
      outgoing.once("upgrade", (_response, socket, head) => {
        socket.setTimeout(0);
        socket.setKeepAlive(true, 30_000);
        socket.on("error", () => socket.destroy());
        socket.once("close", resolve);
        signal.addEventListener("abort", () => socket.destroy(), { once: true });
        if (head.length > 0) socket.unshift(head);
        this.#server.emit("connection", socket);
      });
      outgoing.end();
    });
  }
}
