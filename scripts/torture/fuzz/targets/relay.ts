/** The host's side of the relay, on which a guest asks for objects; and the block devices that a kernel reads through. */
import { mkdtempSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { pino } from "pino";
import { createRelayServer } from "../../../../packages/hobd/src/object-store/relay-server.ts";
import { UploadShare } from "../../../../packages/hobd/src/object-store/upload-share.ts";
import { BlockServer } from "../../../../packages/pilot/src/block-server/block-server.ts";
import { acquire } from "../../../../packages/storage/src/ownership/acquire.ts";
import { SpriteStore } from "../../../../packages/storage/src/store/sprite-store.ts";
import { MemoryStore } from "../../../../packages/storage/test/support/memory-store.ts";
import type { Random } from "../../../../packages/storage/test/support/random.ts";
import { mutated, pieces } from "../mutate.ts";
import { ensure, type Subject, type Target, target } from "../target.ts";
import { answersIn, exchange, httpRequest, judge } from "../wire.ts";

const OWN = "orgs/org/sprites/s1/";
const OTHER = "orgs/org/sprites/s2/head.json";
const CLOSE = { Connection: "close" };
const HASH = "ab".repeat(32);

const REQUESTS: readonly Buffer[] = [
  httpRequest("GET", `/objects/${OWN}head.json`, CLOSE),
  httpRequest("GET", `/objects/${OWN}head.json`, { ...CLOSE, Range: "bytes=0-9" }),
  httpRequest("GET", `/objects/${OTHER}`, CLOSE),
  httpRequest("HEAD", `/objects/${OWN}head.json`, CLOSE),
  httpRequest("PUT", `/objects/orgs/org/packs/${HASH}`, { ...CLOSE, "If-None-Match": "*" }, "content"),
  httpRequest("PUT", `/objects/${OWN}head.json`, { ...CLOSE, "If-Match": "etag" }, '{"format":"hob-head","version":1}'),
  httpRequest("PUT", `/objects/${OTHER}`, CLOSE, "{}"),
  httpRequest("DELETE", `/objects/${OWN}checkpoints/v1.0123456789abcdef.json`, CLOSE),
  httpRequest("DELETE", `/objects/${OTHER}`, CLOSE),
  httpRequest("GET", `/list?prefix=${OWN}&after=${OWN}a&limit=10`, CLOSE),
  httpRequest("GET", "/list?prefix=orgs/&limit=1000", CLOSE),
  httpRequest("GET", "//", CLOSE),
  Buffer.concat([
    httpRequest("PUT", `/objects/orgs/org/maps/${HASH}`, { ...CLOSE, "Transfer-Encoding": "chunked" }),
    Buffer.from("3\r\nabc\r\n0\r\n\r\n"),
  ]),
];

async function startRelay(): Promise<Subject<Buffer[]>> {
  const store = new MemoryStore();
  const initial = { volumeBytes: 65_536 };
  await acquire({ store, org: "org", sprite: "s1", owner: "host", initial });
  await acquire({ store, org: "org", sprite: "s2", owner: "host", initial });
  const others = () => [...store.objects].filter(([key]) => !key.startsWith(OWN) && !key.includes("/packs/") && !key.includes("/maps/"));
  const before = others();
  const share = new UploadShare({ requests: 2, bytes: 64 * 1024 * 1024, requestsOfOne: 2 });
  const server = createRelayServer({
    store: new SpriteStore(store, { org: "org", sprite: "s1", owner: "host", epoch: 1 }),
    log: pino({ level: "silent" }),
    onHead: () => {},
    takeShare: (bytes, signal) => share.take("s1", bytes, signal),
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    input: (random) => pieces(random, mutated(random, REQUESTS)),
    run: async (parts) => judge(answersIn(await exchange({ host: "127.0.0.1", port }, parts))),
    settle: () => {
      ensure(isDeepStrictEqual(others(), before), () => "objects of others were changed");
      return 0;
    },
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

const relay = target(
  { name: "relay", summary: "a guest's requests for objects of the store, at the daemon", weight: 1, lanes: 16 },
  startRelay,
);

/** https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, "Request message" */
function nbdRequest(command: number, offset: bigint, length: number): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(0x25609513, 0);
  bytes.writeUInt16BE(command, 6);
  bytes.writeBigUInt64BE(7n, 8);
  bytes.writeBigUInt64BE(offset, 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

const SOURCE_BYTES = 65_536;
const NBD = [
  nbdRequest(0, 0n, 512),
  nbdRequest(0, 65_024n, 512),
  nbdRequest(0, 65_536n, 512),
  nbdRequest(3, 0n, 0),
  nbdRequest(2, 0n, 0),
  Buffer.concat([nbdRequest(0, 512n, 4096), nbdRequest(0, 0n, 65_536)]),
];

class BlockSubject implements Subject<Buffer[]> {
  readonly #directory = mkdtempSync(join(tmpdir(), "hob-fuzz-"));
  readonly #path = join(this.#directory, "nbd");
  #server: BlockServer | undefined;

  static async start(): Promise<BlockSubject> {
    const subject = new BlockSubject();
    const content = Buffer.alloc(SOURCE_BYTES, "block");
    const source = { sizeBytes: SOURCE_BYTES, read: async (offset: number, length: number) => content.subarray(offset, offset + length) };
    subject.#server = await BlockServer.start(subject.#path, source, { warn: () => {} });
    return subject;
  }

  input(random: Random): Buffer[] {
    return pieces(random, mutated(random, NBD));
  }

  async run(parts: Buffer[]) {
    const bytes = await exchange({ path: this.#path }, parts);
    if (bytes.length === 0) return "refused" as const;
    ensure(bytes.readUInt32BE(0) === 0x67446698, () => "an answer that is no reply");
    const error = bytes.readUInt32BE(4);
    ensure([0, 22].includes(error), () => `error ${error}, though the source has all it was asked for`);
    return error === 0 ? ("accepted" as const) : ("refused" as const);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server?.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

const blocks = target({ name: "block-devices", summary: "requests of the kernel's NBD client, at the pilot", weight: 0.5, lanes: 16 }, () =>
  BlockSubject.start(),
);

export const relayTargets: readonly Target[] = [relay, blocks];
