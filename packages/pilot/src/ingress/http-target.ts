import { setTimeout as sleep } from "node:timers/promises";
import { HobError } from "@hob/protocol";
import type { HelperClient, InsideConnection } from "../helper/index.ts";
import type { InsideDialer } from "../ports/dialer.ts";
import { type OpenPort, openPorts } from "../ports/open-ports.ts";
import type { PortContainer } from "../ports/port-feed.ts";

/** The port that answers the sprite's URL where no service has one. */
const DEFAULT_PORT = 8080;
/** Time that a service has to listen after it was started. */
const SERVICE_TIMEOUT_MS = 10_000;
const RETRY_MS = 100;
const LOOK_TIMEOUT_MS = 5_000;
const LOOK_INTERVAL_MS = 1_000;

/** Ports whose servers do not speak HTTP and that a sprite often has: they never answer its URL. */
const OTHER_PROTOCOLS: ReadonlySet<number> = new Set([
  ...[21, 22, 23, 25, 53, 110, 143, 465, 587, 993, 995],
  ...[1433, 1521, 1883, 2049, 2222, 3306, 4222, 5432, 5433, 5672, 5900, 6379, 6380, 9042, 9092, 11_211, 27_017],
]);

/** Which service answers the sprite's URL. */
export interface HttpTargets {
  /** Its port, the service started if need be; undefined when no service is meant to. @throws HobError when it cannot be started */
  current(): Promise<number | undefined>;
}

export interface HttpTargetParts {
  readonly targets: HttpTargets;
  readonly dialer: Pick<InsideDialer, "dialSelf">;
  readonly helper: Pick<HelperClient, "watchListeners">;
  readonly container: PortContainer;
}

/**
 * Finds what answers the sprite's URL: the service that is meant to, else port 8080, else the port that answered last,
 * else, of the ports that may speak HTTP, that of the oldest process.
 */
export class HttpTarget {
  readonly #parts: HttpTargetParts;
  #lastPort: number | undefined;

  constructor(parts: HttpTargetParts) {
    this.#parts = parts;
  }

  /** @throws HobError `nothing_listens`, and what the dialer and the services throw */
  async connect(): Promise<InsideConnection> {
    const port = await this.#parts.targets.current();
    return port === undefined ? await this.#connectToAny() : await this.#connectToService(port);
  }

  async #connectToService(port: number): Promise<InsideConnection> {
    const deadline = performance.now() + SERVICE_TIMEOUT_MS;
    for (;;) {
      try {
        return await this.#parts.dialer.dialSelf([port]);
      } catch (error) {
        if (!isRefusal(error) || performance.now() > deadline) throw error;
      }
      await sleep(RETRY_MS);
    }
  }

  async #connectToAny(): Promise<InsideConnection> {
    const { dialer } = this.#parts;
    const usual = this.#lastPort === undefined ? [DEFAULT_PORT] : [DEFAULT_PORT, this.#lastPort];
    try {
      return await dialer.dialSelf(usual);
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
    const [port] = httpCandidates(await this.#look());
    if (port === undefined) {
      throw new HobError("nothing_listens", "find what answers the sprite's URL: nothing listens inside", {
        hint: `start a server on port ${DEFAULT_PORT}, or define a service with an http_port`,
      });
    }
    const connection = await dialer.dialSelf([port]);
    this.#lastPort = port;
    return connection;
  }

  async #look(): Promise<OpenPort[]> {
    const { helper, container } = this.#parts;
    const list = Promise.withResolvers<OpenPort[]>();
    const timer = setTimeout(() => list.resolve([]), LOOK_TIMEOUT_MS);
    try {
      using watch = await helper.watchListeners(container.target().initPid, LOOK_INTERVAL_MS, (listeners) =>
        list.resolve([...openPorts(listeners).values()]),
      );
      void watch.ended.then(() => list.resolve([]));
      return await list.promise;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Ports that may speak HTTP, that of the oldest process first: ids rise. */
export const httpCandidates = (ports: readonly OpenPort[]): number[] =>
  ports
    .filter(({ port }) => !OTHER_PROTOCOLS.has(port))
    .toSorted((a, b) => a.pid - b.pid || a.port - b.port)
    .map(({ port }) => port);

const isRefusal = (error: unknown): boolean => error instanceof HobError && error.code === "nothing_listens";
