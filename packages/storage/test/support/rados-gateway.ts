import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { S3Client, type S3Config } from "../../src/store/s3-client.ts";
import { makeAuthority } from "./authority.ts";

/** Ceph's S3 server with one monitor and one OSD (Debian: radosgw, ceph-mon, ceph-osd). */
export interface RadosGateway extends AsyncDisposable {
  endpoint: string;
  /** of the same server by TLS, by a name that has to be made known; buckets are names below it */
  tlsEndpoint: string;
  /** file with the certificate of the authority that signed the server's */
  caFile: string;
  credentials: S3Config["credentials"];
  /** Makes a bucket and returns what reaches it. */
  bucket(name: string): Promise<S3Config>;
  /** log files of the servers */
  readonly logs: readonly string[];
  /** SIGKILL to all three servers at once, or to the gateway alone. Resolves when they are gone. */
  kill9(which?: "all" | "gateway"): Promise<void>;
  /** Starts those that do not run again, on the same folder and address. Resolves when requests are answered. */
  startAgain(): Promise<void>;
}

export interface RadosGatewayOptions {
  /** what was acknowledged is on disk, and there after `kill9` and `startAgain`; default: everything is kept in memory */
  durable?: boolean;
}

const run = promisify(execFile);
const COMMAND_TIMEOUT_MS = 60_000;
/** After a kill the OSD repairs its file and is found again: some 10 s where nothing else wants the processor. */
const START_TIMEOUT_MS = 120_000;

const CREDENTIALS = { accessKeyId: "HOBTESTKEY", secretAccessKey: "hob-test-secret" };

/** Its own name and below it those of its buckets. */
export const GATEWAY_NAME = "s3.hob.test";

const IN_MEMORY = `osd objectstore = memstore
memstore device bytes = 4294967296`;

/** A sparse file in the OSD's folder. */
const ON_DISK = `osd objectstore = bluestore
bluestore block size = 21474836480
bluestore cache autotune = false
bluestore cache size = 67108864`;

interface Settings {
  folder: string;
  fsid: string;
  monPort: number;
  port: number;
  tlsPort: number;
  certificate: { certFile: string; keyFile: string };
  objects: string;
}

const settings = ({ folder, fsid, monPort, port, tlsPort, certificate, objects }: Settings): string => `[global]
fsid = ${fsid}
mon host = v2:127.0.0.1:${monPort}/0
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
run dir = ${folder}
log file = ${folder}/$name.log
admin socket = ${folder}/$name.asok
crash dir = ${folder}/crash
auth cluster required = none
auth service required = none
auth client required = none
paxos propose interval = 0.05
mon data avail crit = 1
mon data avail warn = 1
mon allow pool size one = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd crush chooseleaf type = 0
[mon.a]
mon data = ${folder}/mon
[osd.0]
osd data = ${folder}/osd
${objects}
[client.rgw]
# The default, secure, needs keys.
ms mon client mode = crc
rgw data = ${folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:${port} ssl_endpoint=127.0.0.1:${tlsPort} ssl_certificate=${certificate.certFile} ssl_private_key=${certificate.keyFile}
rgw dns name = ${GATEWAY_NAME}
rgw run sync thread = false
`;

export async function startRadosGateway({ durable = false }: RadosGatewayOptions = {}): Promise<RadosGateway> {
  const folder = await mkdtemp(join(tmpdir(), "hob-ceph-"));
  const servers = new Servers(folder);
  const stop = async (): Promise<void> => {
    await servers.kill9(NAMES);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const addresses = await setUp(folder, servers, durable ? ON_DISK : IN_MEMORY);
    return {
      ...addresses,
      credentials: CREDENTIALS,
      bucket: (name) => bucket(addresses.endpoint, name),
      logs: servers.logs,
      kill9: (which = "all") => servers.kill9(which === "all" ? NAMES : [which]),
      startAgain: async () => {
        for (const name of NAMES) servers.start(name);
        await answers(addresses.endpoint);
      },
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    const logs = await Promise.all(servers.logs.map((path) => readFile(path, "utf8").catch(() => "")));
    await stop();
    throw new Error(`Ceph did not start:\n${logs.map((log) => log.slice(-1000)).join("\n---\n")}`, { cause: error });
  }
}

type Addresses = Pick<RadosGateway, "endpoint" | "tlsEndpoint" | "caFile">;

/** Makes the folders of all servers, and starts these. @returns where the gateway answers */
async function setUp(folder: string, servers: Servers, objects: string): Promise<Addresses> {
  const [monPort, port, tlsPort] = [await freePort(), await freePort(), await freePort()];
  const fsid = randomUUID();
  const osdId = randomUUID();
  for (const name of ["mon", "osd", "rgw"]) await mkdir(join(folder, name));
  const authority = await makeAuthority(folder);
  const certificate = await authority.sign(GATEWAY_NAME, [`DNS:${GATEWAY_NAME}`, `DNS:*.${GATEWAY_NAME}`]);
  await writeFile(servers.conf, settings({ folder, fsid, monPort, port, tlsPort, certificate, objects }));
  const command = (program: string, ...args: string[]) => run(program, ["-c", servers.conf, ...args], { timeout: COMMAND_TIMEOUT_MS });
  await run("monmaptool", ["--create", "--fsid", fsid, "--addv", "a", `[v2:127.0.0.1:${monPort}/0]`, join(folder, "monmap")]);
  await command("ceph-mon", "--mkfs", "-i", "a", "--monmap", join(folder, "monmap"));
  servers.start("mon");
  await command("ceph", "osd", "new", osdId);
  await command("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osdId);
  servers.start("osd");
  const { accessKeyId, secretAccessKey } = CREDENTIALS;
  const user = ["--uid", "hob", "--display-name", "hob", "--access-key", accessKeyId, "--secret", secretAccessKey];
  await command("radosgw-admin", "-n", "client.rgw", "user", "create", ...user);
  servers.start("gateway");
  const endpoint = `http://127.0.0.1:${port}`;
  await answers(endpoint);
  return { endpoint, tlsEndpoint: `https://${GATEWAY_NAME}:${tlsPort}`, caFile: authority.certFile };
}

async function bucket(endpoint: string, name: string): Promise<S3Config> {
  const config = { bucket: name, region: "us-east-1", endpoint, credentials: CREDENTIALS };
  const made = await new S3Client(config).send({ method: "PUT", key: "", maxBytes: 10_000, signal: undefined });
  if (made.status !== 200) throw new Error(`bucket ${name} could not be made: ${made.status} ${made.body}`);
  return config;
}

const SERVERS = {
  mon: ["ceph-mon", "-i", "a"],
  osd: ["ceph-osd", "-i", "0"],
  gateway: ["radosgw", "-n", "client.rgw"],
} as const satisfies Record<string, readonly [string, ...string[]]>;

const NAMES = ["mon", "osd", "gateway"] as const;

class Servers {
  readonly conf: string;
  readonly logs: readonly string[];
  readonly #log: string;
  readonly #running = new Map<keyof typeof SERVERS, ChildProcess>();

  constructor(folder: string) {
    this.conf = join(folder, "ceph.conf");
    this.#log = join(folder, "servers.log");
    this.logs = [...["mon.a", "osd.0", "client.rgw"].map((name) => join(folder, `${name}.log`)), this.#log];
  }

  start(name: keyof typeof SERVERS): void {
    if (this.#running.has(name)) return;
    const [program, ...args] = SERVERS[name];
    const output = openSync(this.#log, "a");
    this.#running.set(name, spawn(program, ["-f", "-c", this.conf, ...args], { stdio: ["ignore", output, output] }));
    closeSync(output);
  }

  async kill9(names: readonly (keyof typeof SERVERS)[]): Promise<void> {
    await Promise.all(names.map((name) => this.#kill(name)));
  }

  async #kill(name: keyof typeof SERVERS): Promise<void> {
    const child = this.#running.get(name);
    this.#running.delete(name);
    if (child !== undefined) await kill(child);
  }
}

async function answers(url: string): Promise<void> {
  for (const deadline = Date.now() + START_TIMEOUT_MS; ; await delay(100)) {
    try {
      await (await fetch(url, { signal: AbortSignal.timeout(START_TIMEOUT_MS) })).arrayBuffer();
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
  }
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
