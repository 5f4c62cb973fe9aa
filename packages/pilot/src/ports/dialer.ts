import { isIP, type Socket } from "node:net";
import { HobError, LIMITS } from "@hob/protocol";
import { SPRITE_NETWORK } from "../config.ts";
import type { HelperClient, InsideConnection, SocketAddress } from "../helper/index.ts";
import type { NameLookup } from "./name-lookup.ts";
import type { PortContainer } from "./port-feed.ts";

/** errno(3) */
const ECONNREFUSED = 111;
const ETIMEDOUT = 110;

/** Every address a service inside may be bound to, in the order in which most are. */
const OWN_ADDRESSES = ["127.0.0.1", "::1", SPRITE_NETWORK.inner.ipv4, SPRITE_NETWORK.inner.ipv6].map(
  (address) => address.split("/")[0] ?? address,
);

export interface DialerParts {
  readonly helper: Pick<HelperClient, "connectInside">;
  readonly container: PortContainer;
  readonly lookUp: NameLookup;
  /** what the sprite calls itself, besides localhost */
  readonly ownNames: () => readonly string[];
}

/**
 * Opens TCP connections as a process of the sprite would: from inside its network namespace, under the rules that hold
 * for it. So nothing of the root namespace can be reached that the sprite itself could not reach.
 */
export class InsideDialer {
  readonly #parts: DialerParts;
  #open = 0;

  constructor(parts: DialerParts) {
    this.#parts = parts;
  }

  /**
   * To a port of the sprite itself, on whichever of its addresses it is listened on; of several ports the first that is.
   * @throws HobError `nothing_listens` | `container_stopped` | `too_many_connections` | `helper_unreachable` | `timeout`
   */
  dialSelf(ports: readonly number[], timeoutMs?: number): Promise<InsideConnection> {
    const endpoints = ports.flatMap((port) => OWN_ADDRESSES.map((address) => ({ address, port })));
    return this.#connect(endpoints, `port ${ports.join(" or ")} of the sprite`, timeoutMs);
  }

  /**
   * To a host by name or address. Names are looked up inside the sprite.
   * @throws HobError `host_unreachable`, and what `dialSelf` throws
   */
  async dial(host: string, port: number, timeoutMs?: number): Promise<InsideConnection> {
    const name = host.replace(/\.$/, "").toLowerCase();
    if (name === "localhost" || name.endsWith(".localhost") || this.#parts.ownNames().includes(name)) {
      return this.dialSelf([port], timeoutMs);
    }
    const addresses = isIP(name) !== 0 ? [name] : await this.#parts.lookUp(name);
    const endpoints = addresses.map((address) => ({ address, port }));
    return this.#connect(endpoints, `${name.includes(":") ? `[${name}]` : name}:${port}`, timeoutMs);
  }

  async #connect(endpoints: readonly SocketAddress[], what: string, timeoutMs?: number): Promise<InsideConnection> {
    const { helper, container } = this.#parts;
    if (container.state() !== "running") {
      throw new HobError("container_stopped", `connect to ${what}: its container does not run`, { hint: "repeat it in a moment" });
    }
    if (this.#open >= LIMITS.insideConnections) {
      throw new HobError("too_many_connections", `connect to ${what}: ${this.#open} connections into the sprite are open`, {
        hint: "close some, or try again",
      });
    }
    this.#open++;
    try {
      const connection = await helper.connectInside(container.target().initPid, endpoints, timeoutMs);
      this.#countUntilClosed(connection.socket);
      return connection;
    } catch (error) {
      this.#open--;
      throw connectError(error, what);
    }
  }

  #countUntilClosed(socket: Socket): void {
    if (socket.destroyed) this.#open--;
    else socket.once("close", () => this.#open--);
  }
}

function connectError(error: unknown, what: string): unknown {
  if (!(error instanceof HobError) || error.code !== "helper_failed") return error;
  const { errno } = error.details;
  if (errno === ECONNREFUSED) {
    return new HobError("nothing_listens", `connect to ${what}: nothing listens there`, {
      hint: "start a server inside; 'ss -ltn' inside shows what listens",
      cause: error,
    });
  }
  if (errno === ETIMEDOUT) return new HobError("timeout", `connect to ${what}: no answer in time`, { cause: error });
  return new HobError("host_unreachable", `connect to ${what}: ${error.message.replace(/^.*: /, "")}`, {
    hint: "the sprite's network policy may forbid it",
    cause: error,
  });
}
