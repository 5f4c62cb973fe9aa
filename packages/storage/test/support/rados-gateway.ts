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

/** Ceph's S3 server with one monitor and one OSD that keeps everything in memory (Debian: radosgw, ceph-mon, ceph-osd). */
export interface RadosGateway extends AsyncDisposable {
  endpoint: string;
  /** of the same server by TLS, by a name that has to be made known; buckets are names below it */
  tlsEndpoint: string;
  /** file with the certificate of the authority that signed the server's */
  caFile: string;
  credentials: S3Config["credentials"];
  /** Makes a bucket and returns what reaches it. */
  bucket(name: string): Promise<S3Config>;
}

const run = promisify(execFile);
const COMMAND_TIMEOUT_MS = 60_000;

const CREDENTIALS = { accessKeyId: "HOBTESTKEY", secretAccessKey: "hob-test-secret" };

/** Its own name and below it those of its buckets. */
export const GATEWAY_NAME = "s3.hob.test";

interface Settings {
  folder: string;
  fsid: string;
  monPort: number;
  port: number;
  tlsPort: number;
  certificate: { certFile: string; keyFile: string };
}

const settings = ({ folder, fsid, monPort, port, tlsPort, certificate }: Settings): string => `[global]
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
osd objectstore = memstore
memstore device bytes = 4294967296
[client.rgw]
# The default, secure, needs keys.
ms mon client mode = crc
rgw data = ${folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:${port} ssl_endpoint=127.0.0.1:${tlsPort} ssl_certificate=${certificate.certFile} ssl_private_key=${certificate.keyFile}
rgw dns name = ${GATEWAY_NAME}
rgw run sync thread = false
`;

export async function startRadosGateway(): Promise<RadosGateway> {
  const folder = await mkdtemp(join(tmpdir(), "hob-ceph-"));
  const children: ChildProcess[] = [];
  const stop = async (): Promise<void> => {
    for (const child of children.reverse()) await kill(child);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    return await start(folder, children, stop);
  } catch (error) {
    const logs = await Promise.all(
      ["mon.a", "osd.0", "client.rgw"].map((name) => readFile(join(folder, `${name}.log`), "utf8").catch(() => "")),
    );
    await stop();
    throw new Error(`Ceph did not start:\n${logs.map((log) => log.slice(-1000)).join("\n---\n")}`, { cause: error });
  }
}

async function start(folder: string, children: ChildProcess[], stop: () => Promise<void>): Promise<RadosGateway> {
  const [monPort, port, tlsPort] = [await freePort(), await freePort(), await freePort()];
  const conf = join(folder, "ceph.conf");
  const fsid = randomUUID();
  const osdId = randomUUID();
  for (const name of ["mon", "osd", "rgw"]) await mkdir(join(folder, name));
  const authority = await makeAuthority(folder);
  const certificate = await authority.sign(GATEWAY_NAME, [`DNS:${GATEWAY_NAME}`, `DNS:*.${GATEWAY_NAME}`]);
  await writeFile(conf, settings({ folder, fsid, monPort, port, tlsPort, certificate }));
  const command = (program: string, ...args: string[]) => run(program, ["-c", conf, ...args], { timeout: COMMAND_TIMEOUT_MS });
  const daemon = (program: string, ...args: string[]): void => {
    const output = openSync(join(folder, "daemons.log"), "a");
    children.push(spawn(program, ["-f", "-c", conf, ...args], { stdio: ["ignore", output, output] }));
    closeSync(output);
  };
  await run("monmaptool", ["--create", "--fsid", fsid, "--addv", "a", `[v2:127.0.0.1:${monPort}/0]`, join(folder, "monmap")]);
  await command("ceph-mon", "--mkfs", "-i", "a", "--monmap", join(folder, "monmap"));
  daemon("ceph-mon", "-i", "a");
  await command("ceph", "osd", "new", osdId);
  await command("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osdId);
  daemon("ceph-osd", "-i", "0");
  const { accessKeyId, secretAccessKey } = CREDENTIALS;
  const user = ["--uid", "hob", "--display-name", "hob", "--access-key", accessKeyId, "--secret", secretAccessKey];
  await command("radosgw-admin", "-n", "client.rgw", "user", "create", ...user);
  daemon("radosgw", "-n", "client.rgw");
  const endpoint = `http://127.0.0.1:${port}`;
  await answers(endpoint);
  const bucket = async (name: string): Promise<S3Config> => {
    const config = { bucket: name, region: "us-east-1", endpoint, credentials: CREDENTIALS };
    const made = await new S3Client(config).send({ method: "PUT", key: "", maxBytes: 10_000, signal: undefined });
    if (made.status !== 200) throw new Error(`bucket ${name} could not be made: ${made.status} ${made.body}`);
    return config;
  };
  const tlsEndpoint = `https://${GATEWAY_NAME}:${tlsPort}`;
  return { endpoint, tlsEndpoint, caFile: authority.certFile, credentials: CREDENTIALS, bucket, [Symbol.asyncDispose]: stop };
}

async function answers(url: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await (await fetch(url)).arrayBuffer();
      return;
    } catch (error) {
      if (attempt === 300) throw error;
      await delay(100);
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
