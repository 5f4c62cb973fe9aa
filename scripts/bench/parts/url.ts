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
import { notMeasured, type Row } from "../stats.ts";
import { MACHINE } from "../subjects/machine.ts";
import { Nginx } from "../subjects/nginx.ts";
import { TunnelPort } from "../subjects/tunnel-port.ts";

const CONNECTIONS = 8;

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
  boundMinutes: { quick: 4, full: 12 },
  async run(context) {
    const n = context.quick ? 300 : 3_000;
    const { daemon, pilot } = await startWithSite(context);
    const headers = { host: "url.sprites.localhost", authorization: `Bearer ${daemon.token}` };
    const common: LoadOptions = { port: portOf(daemon.url), headers, requests: n, connections: CONNECTIONS, method: "GET" };
    const tunnel = { authorization: `Bearer ${pilot.token}` };
    context.progress(`${n} requests through the VM's network`);
    const direct = await load({ ...common, port: pilot.port, headers: { host: "x" }, tunnel });
    context.progress(`${n} requests through the front door`);
    const url = await load(common);
    const nginx = await throughNginx(context, pilot, common);
    context.progress("requests with a body");
    const posts = Math.ceil(n / 10);
    const post = await load({ ...common, method: "POST", requests: posts });
    const rows = rowsOf(n, url, direct, "the same server through the VM's network");
    const besideNginx =
      nginx === undefined
        ? [notMeasured("URL beside nginx in the front door's place", "/s", "nginx is not installed")]
        : rowsOf(n, url, nginx, "nginx in the front door's place");
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
    async createRuntime({ home: layout, storage, log }) {
      const events = { building() {}, built() {} };
      const runtime = await createRuntime({ home: layout.directory, images, storage, log, prepare: true, events });
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

async function throughNginx(context: BenchContext, pilot: PilotEndpoint, common: LoadOptions): Promise<LoadResult | undefined> {
  const tunnels = await TunnelPort.start(context, pilot);
  const nginx = await Nginx.start(context, tunnels.port);
  if (nginx === undefined) return undefined;
  context.progress(`${common.requests} requests through nginx`);
  return load({ ...common, port: nginx.port });
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
