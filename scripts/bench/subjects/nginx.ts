import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { BenchContext } from "../part.ts";

/** Where Debian has it; not in the PATH of ordinary users. */
const PROGRAM = "/usr/sbin/nginx";
const START_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 10_000;

/** nginx as a reverse proxy that keeps its connections, as its documentation recommends; Debian's package nginx-light. */
export class Nginx {
  readonly port: number;

  private constructor(port: number) {
    this.port = port;
  }

  /** undefined where it is not installed. */
  static async start(context: BenchContext, upstreamPort: number): Promise<Nginx | undefined> {
    const directory = await mkdtemp(join(tmpdir(), "hob-nginx-"));
    context.defer(() => rm(directory, { recursive: true, force: true }));
    const port = await freePort();
    await writeFile(join(directory, "nginx.conf"), configuration(directory, port, upstreamPort));
    const argv = ["-p", directory, "-c", join(directory, "nginx.conf"), "-e", join(directory, "error.log")];
    const child = spawn(PROGRAM, argv, { stdio: ["ignore", "ignore", "inherit"] });
    const started = await Promise.race([once(child, "spawn").then(() => true), once(child, "error").then(() => false)]);
    if (!started) return undefined;
    context.defer(() => end(child));
    await listening(port, child);
    return new Nginx(port);
  }
}

const configuration = (directory: string, port: number, upstreamPort: number): string => `
daemon off;
worker_processes 1;
pid ${directory}/pid;
events {}
http {
  access_log off;
  client_body_temp_path ${directory}/body;
  proxy_temp_path ${directory}/proxy;
  fastcgi_temp_path ${directory}/fastcgi;
  uwsgi_temp_path ${directory}/uwsgi;
  scgi_temp_path ${directory}/scgi;
  keepalive_requests 1000000;
  upstream sprite {
    server 127.0.0.1:${upstreamPort};
    keepalive 64;
    keepalive_requests 1000000;
  }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://sprite;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
    }
  }
}
`;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

async function listening(port: number, child: ChildProcess): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < deadline && child.exitCode === null) {
    const socket = connect(port, "127.0.0.1");
    const isThere = await Promise.race([once(socket, "connect").then(() => true), once(socket, "error").then(() => false)]).catch(
      () => false,
    );
    socket.destroy();
    if (isThere) return;
    await sleep(50);
  }
  throw new Error("nginx does not listen");
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit", { signal: AbortSignal.timeout(STOP_TIMEOUT_MS) });
  child.kill("SIGTERM");
  await gone.catch(() => child.kill("SIGKILL"));
}
