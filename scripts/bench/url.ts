import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { SpritesClient } from "@fly/sprites";
import { createRuntime, loadConfig, type PilotEndpoint, startDaemon } from "@hob/hobd";
import { buildImages } from "@hob/images";
import type { LoadOptions, LoadResult } from "./load.ts";
import type { Row } from "./stats.ts";
import { MACHINE } from "./subjects.ts";

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

/** Requests to a sprite's URL, beside the same server through the tunnel into its VM alone, without the front door. */
export async function benchUrl(n: number): Promise<Row[]> {
  const home = await mkdtemp(join(tmpdir(), "hob-bench-"));
  const images = await buildImages({ onProgress: () => {} });
  let endpoint: (() => Promise<PilotEndpoint>) | undefined;
  const config = loadConfig({}, { home, listen: "127.0.0.1:0", logLevel: "error" });
  const daemon = await startDaemon(config, {
    async createRuntime({ home: layout, storage, log }) {
      const runtime = await createRuntime({
        home: layout.directory,
        images,
        storage,
        log,
        prepare: true,
        events: { building() {}, built() {} },
      });
      const create = runtime.create.bind(runtime);
      runtime.create = async (identity, machine) => {
        await create(identity, machine);
        endpoint = () => runtime.endpoint(identity, MACHINE);
      };
      return runtime;
    },
  });
  try {
    const sprite = await new SpritesClient(daemon.token ?? "", { baseURL: daemon.url }).createSprite("url");
    const server = sprite.spawn("python3", ["-c", SERVER]);
    while ((await sprite.execFile("sh", ["-c", "ss -Hltn 'sport = :8080' | wc -l"])).stdout.toString().trim() === "0");
    const headers = { host: "url.sprites.localhost", authorization: `Bearer ${daemon.token}` };
    const common = { port: Number(new URL(daemon.url).port), headers, requests: n, connections: CONNECTIONS, method: "GET" } as const;
    const pilot = await endpoint?.();
    if (pilot === undefined) throw new Error("the sprite has no pilot");
    const tunnel = await load({ ...common, port: pilot.port, headers: { host: "x" }, tunnel: { authorization: `Bearer ${pilot.token}` } });
    const url = await load(common);
    const post = await load({ ...common, method: "POST", requests: Math.ceil(n / 10) });
    server.kill("SIGKILL");
    return rows(n, tunnel, url, post);
  } finally {
    await daemon.stop();
    await rm(home, { recursive: true, force: true });
  }
}

function rows(n: number, tunnel: LoadResult, url: LoadResult, post: LoadResult): Row[] {
  const name = `URL, ${CONNECTIONS} connections`;
  const beside = "the same server through the tunnel alone";
  return [
    {
      what: `${name}: GET, p50`,
      value: url.p50,
      unit: "ms",
      n,
      beside: { what: beside, value: tunnel.p50 },
      note: `${url.perSecond}/s beside ${tunnel.perSecond}/s`,
    },
    { what: `${name}: GET, p99`, value: url.p99, unit: "ms", n, beside: { what: beside, value: tunnel.p99 } },
    {
      what: `${name}: POST (a new connection inside each), p50`,
      value: post.p50,
      unit: "ms",
      n: Math.ceil(n / 10),
      note: `${post.perSecond}/s`,
    },
  ];
}

async function load(options: LoadOptions): Promise<LoadResult> {
  const script = new URL("load.ts", import.meta.url).pathname;
  const { stdout } = await promisify(execFile)(process.execPath, [script, JSON.stringify(options)], { timeout: 300_000 });
  return JSON.parse(stdout) as LoadResult;
}
