import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { SpritesClient } from "@fly/sprites";
import { createRuntime, type Daemon, loadConfig, type PilotEndpoint, startDaemon } from "@hob/hobd";
import { buildImages } from "@hob/images";
import type { LoadOptions, LoadResult } from "../load.ts";
import type { BenchContext, Part } from "../part.ts";
import { notMeasured, type Row, Series } from "../stats.ts";
import { MACHINE } from "../subjects/machine.ts";
import { Nginx } from "../subjects/nginx.ts";
import { TunnelPort } from "../subjects/tunnel-port.ts";

const CONNECTIONS = 8;
const ROUNDS = 3;

/** The lightest web server that keeps its connections: what is measured is the way to it. */
const SERVER = `
import asyncio
class Site(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
async def main(): await (await asyncio.get_running_loop().create_server(Site, "127.0.0.1", 8080)).serve_forever()
asyncio.run(main())
`;

/**
 * Requests to a sprite's URL, beside the same server reached through the VM's network without the front door, and beside
 * nginx in the front door's place. The host has one way into a VM, a connection that it opens to the pilot: the load
 * generator opens it itself, nginx through a port of this machine whose connections are tunnels.
 */
export const urlPart: Part = {
  name: "url",
  title: "requests to a sprite's URL",
  boundMinutes: { quick: 4, full: 15 },
  async run(context) {
    const n = context.quick ? 150 : 1_500;
    const { daemon, pilot } = await startWithSite(context);
    const headers = { host: "url.sprites.localhost", authorization: `Bearer ${daemon.token}` };
    const common: LoadOptions = { port: portOf(daemon.url), headers, requests: n, connections: CONNECTIONS, method: "GET" };
    const nginx = await startNginx(context, pilot);
    const ways: Record<"direct" | "url" | "nginx", LoadOptions | undefined> = {
      direct: { ...common, port: pilot.port, headers: { host: "x" }, tunnel: { authorization: `Bearer ${pilot.token}` } },
      url: common,
      nginx: nginx === undefined ? undefined : { ...common, port: nginx.port },
    };
    const results = await inTurns(context, ways);
    context.progress("requests with a body");
    const posts = Math.ceil(n / 10);
    const post = await load({ ...common, method: "POST", requests: posts });
    const all = n * ROUNDS;
    const rows = rowsOf(all, results.url, results.direct, "the same server through the VM's network");
    const besideNginx =
      nginx === undefined
        ? [notMeasured("URL beside nginx in the front door's place", "/s", "nginx is not installed")]
        : rowsOf(all, results.url, results.nginx, "nginx in the front door's place");
    const each = `URL, ${CONNECTIONS} connections: POST (a new connection inside for each)`;
    return [...rows, ...besideNginx, { what: `${each}, p50`, value: post.p50, unit: "ms", n: posts, note: `${post.perSecond}/s` }];
  },
};

/** A daemon in this process: it alone knows how to reach the pilot. */
async function startWithSite(context: BenchContext): Promise<{ daemon: Daemon; pilot: PilotEndpoint }> {
  context.progress("starting a daemon and a web server in a sprite");
  const home = await mkdtemp(join(tmpdir(), "hob-bench-"));
  context.defer(() => rm(home, { recursive: true, force: true }));
  const images = await buildImages({ onProgress: () => {} });
  let endpoint: (() => Promise<PilotEndpoint>) | undefined;
  const config = loadConfig({}, { home, listen: "127.0.0.1:0", logLevel: "error", idleTimeout: "0" });
  const daemon = await startDaemon(config, {
    async createRuntime({ home: layout, storage, cacheKeepMs, log }) {
      const events = { building() {}, built() {} };
      const runtime = await createRuntime({ home: layout.directory, images, cacheKeepMs, storage, log, prepare: true, events });
      const create = runtime.create.bind(runtime);
      runtime.create = async (identity, machine) => {
        await create(identity, machine);
        endpoint = () => runtime.endpoint(identity, MACHINE);
      };
      return runtime;
    },
  });
  context.defer(() => daemon.stop());
  const sprite = await new SpritesClient(daemon.token ?? "", { baseURL: daemon.url }).createSprite("url");
  const server = sprite.spawn("python3", ["-c", SERVER]);
  server.on("error", () => {});
  context.defer(() => server.kill("SIGKILL"));
  const listening = "for i in $(seq 200); do ss -Hltn 'sport = :8080' | grep -q . && exit; sleep 0.1; done; exit 1";
  await sprite.execFile("sh", ["-c", listening]);
  const pilot = await endpoint?.();
  if (pilot === undefined) throw new Error("the sprite has no pilot");
  return { daemon, pilot };
}

async function startNginx(context: BenchContext, pilot: PilotEndpoint): Promise<Nginx | undefined> {
  const tunnels = await TunnelPort.start(context, pilot);
  return Nginx.start(context, tunnels.port);
}

/** The ways take turns, so that all see the same machine; of each the median of its rounds. The first round warms up. */
async function inTurns<K extends string>(context: BenchContext, ways: Record<K, LoadOptions | undefined>): Promise<Record<K, LoadResult>> {
  const names = Object.keys(ways) as K[];
  const series = new Map(names.map((name) => [name, { p50: new Series(), p99: new Series(), perSecond: new Series() }]));
  for (let round = -1; round < ROUNDS; round++) {
    for (const name of names) {
      const options = ways[name];
      if (options === undefined) continue;
      context.progress(round < 0 ? `warming up: ${name}` : `${options.requests} requests, ${name}, ${round + 1} of ${ROUNDS}`);
      const { p50, p99, perSecond } = await load(round < 0 ? { ...options, requests: CONNECTIONS } : options);
      const of = series.get(name);
      if (round < 0 || of === undefined) continue;
      of.p50.add(p50);
      of.p99.add(p99);
      of.perSecond.add(perSecond);
    }
  }
  const median = (of = { p50: new Series(), p99: new Series(), perSecond: new Series() }): LoadResult => {
    return { p50: of.p50.p50, p99: of.p99.p50, perSecond: of.perSecond.p50 };
  };
  return Object.fromEntries(names.map((name) => [name, median(series.get(name))])) as Record<K, LoadResult>;
}

function rowsOf(n: number, url: LoadResult, other: LoadResult, what: string): Row[] {
  const name = `URL, ${CONNECTIONS} connections: GET`;
  return [
    { what: `${name}, requests per second`, value: url.perSecond, unit: "/s", n, beside: { what, value: other.perSecond } },
    { what: `${name}, p50`, value: url.p50, unit: "ms", n, beside: { what, value: other.p50 } },
    { what: `${name}, p99`, value: url.p99, unit: "ms", n, beside: { what, value: other.p99 } },
  ];
}

const portOf = (url: string): number => Number(new URL(url).port);

async function load(options: LoadOptions): Promise<LoadResult> {
  const script = new URL("../load.ts", import.meta.url).pathname;
  const { stdout } = await promisify(execFile)(process.execPath, [script, JSON.stringify(options)], { timeout: 240_000 });
  return JSON.parse(stdout) as LoadResult;
}
