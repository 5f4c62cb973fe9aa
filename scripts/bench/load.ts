/**
 * A load generator in a process of its own: node load.ts OPTIONS, where OPTIONS is JSON of `LoadOptions`. Prints one line of
 * JSON, `LoadResult`.
 */
import { once } from "node:events";
import { Agent, type IncomingMessage, request } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { Series } from "./stats.ts";

export interface LoadOptions {
  port: number;
  headers: Record<string, string>;
  method: "GET" | "POST";
  requests: number;
  /** at a time */
  connections: number;
  /** headers of an upgrade of `/hob/ingress`: the requests then go through the tunnel, without the front door */
  tunnel?: Record<string, string>;
}

export interface LoadResult {
  p50: number;
  p99: number;
  perSecond: number;
}

const WARM_UP = 50;

class TunnelAgent extends Agent {
  readonly #options: LoadOptions;

  constructor(options: LoadOptions) {
    super({ keepAlive: true, maxSockets: options.connections });
    this.#options = options;
  }

  override createConnection(_: object, callback?: (error: Error | null, socket: Duplex) => void): undefined {
    const { port, tunnel } = this.#options;
    const headers = { ...tunnel, Connection: "Upgrade", Upgrade: "hob-tunnel" };
    const outgoing = request({ host: "127.0.0.1", port, path: "/hob/ingress", agent: false, headers });
    outgoing.once("upgrade", (_response, socket: Socket) => callback?.(null, socket));
    outgoing.end();
  }
}

async function one(options: LoadOptions, agent: Agent): Promise<void> {
  const outgoing = request({ host: "127.0.0.1", port: options.port, method: options.method, headers: options.headers, agent });
  outgoing.end(options.method === "POST" ? "x" : undefined);
  const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
  await answer.toArray();
  if (answer.statusCode !== 200) throw new Error(`status ${answer.statusCode}`);
}

const options = JSON.parse(process.argv[2] ?? "") as LoadOptions;
const agent = options.tunnel === undefined ? new Agent({ keepAlive: true, maxSockets: options.connections }) : new TunnelAgent(options);
const times = new Series();
let left = options.requests + WARM_UP;
let start = 0;
await Promise.all(
  Array.from({ length: options.connections }, async () => {
    while (left-- > 0) {
      if (left === options.requests) start = performance.now();
      const begun = performance.now();
      await one(options, agent);
      if (left < options.requests) times.add(performance.now() - begun);
    }
  }),
);
const result: LoadResult = {
  p50: times.p50,
  p99: times.percentile(99),
  perSecond: Math.round((times.count / (performance.now() - start)) * 1000),
};
console.log(JSON.stringify(result));
process.exit(0);
