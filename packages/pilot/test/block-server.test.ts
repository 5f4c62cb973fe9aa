import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { BlockServer, type BlockSource } from "../src/block-server/block-server.ts";
import { COMMAND, NBD_ERROR } from "../src/block-server/nbd-wire.ts";

const SIZE = 1024 * 1024;
const quiet = { warn: () => {} };

/** What the kernel sends; proto.md of NBD, "Request message". */
function request(command: number, cookie: bigint, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(0x25609513, 0);
  bytes.writeUInt16BE(command, 6);
  bytes.writeBigUInt64BE(cookie, 8);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

/** A connection to a server, read piece by piece. */
class Client {
  readonly socket: Socket;
  #bytes = Buffer.alloc(0);
  #more = Promise.withResolvers<void>();

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake();
    });
    socket.once("close", () => this.#wake());
  }

  write(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  /** Reads exactly this much. */
  async take(length: number): Promise<Buffer> {
    while (this.#bytes.length < length) {
      assert.ok(!this.socket.destroyed, "the server has closed");
      await this.#more.promise;
    }
    const taken = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    return taken;
  }

  #wake(): void {
    this.#more.resolve();
    this.#more = Promise.withResolvers();
  }
}

async function takeReply(client: Client): Promise<{ error: number; cookie: bigint }> {
  const bytes = await client.take(16);
  assert.equal(bytes.readUInt32BE(0), 0x67446698);
  return { error: bytes.readUInt32BE(4), cookie: bytes.readBigUInt64BE(8) };
}

async function withServer(source: BlockSource, body: (client: Client) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "hob-nbd-"));
  const server = await BlockServer.start(join(directory, "socket"), source, quiet);
  const socket = connect(server.path);
  try {
    await once(socket, "connect");
    await body(new Client(socket));
  } finally {
    socket.destroy();
    await server.close();
    rmSync(directory, { recursive: true });
  }
}

const content = randomBytes(SIZE);
const memory: BlockSource = { sizeBytes: SIZE, read: async (offset, length) => content.subarray(offset, offset + length) };

describe("the block server", () => {
  test("reads come back whole, however the requests are cut", () =>
    withServer(memory, (client) =>
      fc.assert(
        fc.asyncProperty(
          fc.array(fc.tuple(fc.nat(SIZE / 512 - 1), fc.integer({ min: 1, max: 64 })), { minLength: 1, maxLength: 8 }),
          fc.integer({ min: 1, max: 60 }),
          async (reads, cut) => {
            const wanted = reads.map(([at, count]) => ({ offset: at * 512, length: Math.min(count * 512, SIZE - at * 512) }));
            const bytes = Buffer.concat(wanted.map(({ offset, length }, i) => request(COMMAND.read, BigInt(i), offset, length)));
            for (let at = 0; at < bytes.length; at += cut) client.write(bytes.subarray(at, at + cut));
            for (const _ of wanted) {
              const { error, cookie } = await takeReply(client);
              const { offset, length } = wanted[Number(cookie)] ?? assert.fail("an answer to nothing");
              assert.equal(error, NBD_ERROR.none);
              assert.ok((await client.take(length)).equals(content.subarray(offset, offset + length)));
            }
          },
        ),
        { numRuns: 50 },
      ),
    ));

  test("a read beyond the end, or of nothing, is an error of that read alone", () =>
    withServer(memory, async (client) => {
      for (const [offset, length] of [
        [SIZE - 512, 1024],
        [SIZE, 512],
        [0, 0],
        [0, 64 * 1024 * 1024],
      ] as const) {
        client.write(request(COMMAND.read, 7n, offset, length));
        assert.deepEqual(await takeReply(client), { error: NBD_ERROR.invalid, cookie: 7n });
      }
      client.write(request(COMMAND.read, 8n, 0, 512));
      assert.deepEqual(await takeReply(client), { error: NBD_ERROR.none, cookie: 8n });
    }));

  test("a source that fails is an error of the device, one that waits holds up no other read", async () => {
    const slow = Promise.withResolvers<Buffer>();
    const source: BlockSource = {
      sizeBytes: SIZE,
      read: async (offset, length) => {
        if (offset === 0) return slow.promise;
        if (offset === 4096) throw new Error("damaged");
        return Buffer.alloc(length, 1);
      },
    };
    await withServer(source, async (client) => {
      client.write(request(COMMAND.read, 1n, 0, 512));
      client.write(request(COMMAND.read, 2n, 4096, 512));
      client.write(request(COMMAND.read, 3n, 8192, 4));
      assert.deepEqual(await takeReply(client), { error: NBD_ERROR.io, cookie: 2n });
      assert.deepEqual(await takeReply(client), { error: NBD_ERROR.none, cookie: 3n });
      assert.deepEqual(await client.take(4), Buffer.alloc(4, 1));
      slow.resolve(Buffer.alloc(512, 2));
      assert.deepEqual(await takeReply(client), { error: NBD_ERROR.none, cookie: 1n });
    });
  });

  test("what is no read ends the connection: what follows cannot be told apart", async () => {
    for (const bytes of [request(COMMAND.write, 1n, 0, 512), request(COMMAND.disconnect, 1n, 0, 0), Buffer.alloc(28, 0xff)]) {
      await withServer(memory, async (client) => {
        client.write(bytes);
        if (!client.socket.destroyed) await once(client.socket, "close");
      });
    }
  });
});
