import assert from "node:assert/strict";
import { once } from "node:events";
import { Agent, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, test } from "node:test";
import { RELAY } from "@hob/protocol";
import fc from "fast-check";
import { pino } from "pino";
import { MemoryStore } from "../../storage/test/support/memory-store.ts";
import { createRelayServer } from "../src/object-store/relay-server.ts";
import { UploadShare } from "../src/object-store/upload-share.ts";

const never = new AbortController().signal;
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe("the share of a sprite", () => {
  test("is bounded, and everyone comes to their turn: bytes even out, however they are cut into requests", async () => {
    const share = new UploadShare({ requests: 2, bytes: 1 << 30, requestsOfOne: 2 });
    const done: Record<string, number> = { large: 0, small: 0 };
    const running: (() => void)[] = [];
    const upload = async (sprite: string, bytes: number) => {
      using _ = await share.take(sprite, bytes, never);
      await new Promise<void>((resolve) => running.push(resolve));
      done[sprite] = (done[sprite] ?? 0) + bytes;
    };
    const MIB = 1 << 20;
    for (let i = 0; i < 40; i++) void upload("large", 8 * MIB);
    for (let i = 0; i < 100; i++) void upload("small", MIB);
    for (let step = 0; step < 60; step++) {
      await settled();
      assert.ok(running.length <= 2);
      running.shift()?.();
    }
    await settled();
    const { large = 0, small = 0 } = done;
    assert.ok(small > 40 * MIB && Math.abs(large - small) <= 24 * MIB, JSON.stringify(done));
  });

  test("one that was silent has saved up nothing, and one that pauses loses nothing it owes", async () => {
    const share = new UploadShare({ requests: 1, bytes: 1000, requestsOfOne: 1 });
    const order: string[] = [];
    const first = await share.take("old", 100, never);
    const wait = (sprite: string) =>
      share.take(sprite, 100, never).then((permit) => {
        order.push(sprite);
        permit[Symbol.dispose]();
      });
    const all = [wait("old"), wait("old"), wait("new"), wait("new")];
    first[Symbol.dispose]();
    await Promise.all(all);
    assert.deepEqual(order, ["new", "old", "new", "old"]);
  });

  test("those who go away while they wait give up their place, and those behind come", async () => {
    const share = new UploadShare({ requests: 1, bytes: 100, requestsOfOne: 1 });
    const first = await share.take("a", 100, never);
    const gone = new AbortController();
    const waiting = share.take("b", 100, gone.signal);
    const behind = share.take("c", 10, never);
    gone.abort(new Error("gone"));
    await assert.rejects(waiting, /gone/);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    (await behind)[Symbol.dispose]();
    await assert.rejects(share.take("b", 1, gone.signal), /gone/);
  });

  test("whatever comes in whatever order: the bounds hold, and everyone who stays is admitted", async () => {
    const take = fc.record({ sprite: fc.constantFrom("a", "b", "c"), bytes: fc.integer({ min: 0, max: 200 }), leaves: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(take, { maxLength: 40 }), fc.infiniteStream(fc.nat()), async (takes, picks) => {
        const limits = { requests: 3, bytes: 100, requestsOfOne: 2 };
        const share = new UploadShare(limits);
        const running: { sprite: string; bytes: number; permit: Disposable }[] = [];
        let ended = 0;
        for (const { sprite, bytes, leaves } of takes) {
          const gone = new AbortController();
          share.take(sprite, bytes, gone.signal).then(
            (permit) => running.push({ sprite, bytes: Math.min(bytes, limits.bytes), permit }),
            () => ended++,
          );
          if (leaves) gone.abort();
        }
        for (;;) {
          await settled();
          assert.ok(running.length <= limits.requests);
          assert.ok(running.reduce((sum, { bytes }) => sum + bytes, 0) <= limits.bytes);
          for (const name of ["a", "b", "c"]) assert.ok(running.filter(({ sprite }) => sprite === name).length <= limits.requestsOfOne);
          if (running.length === 0) break;
          const [one] = running.splice((picks.next().value ?? 0) % running.length, 1);
          one?.permit[Symbol.dispose]();
          ended++;
        }
        assert.equal(ended, takes.length);
      }),
      { numRuns: 100 },
    );
  });
});

describe("the relay", () => {
  async function withServer(
    share: UploadShare,
    body: (put: (sprite: string, key: string, data: Buffer, send?: Sent) => Upload, store: SlowStore) => Promise<void>,
  ) {
    const store = new SlowStore();
    const servers = new Map<string, Server>();
    const agent = new Agent({ keepAlive: true });
    for (const sprite of ["hog", "other"]) {
      const takeShare = (bytes: number, signal: AbortSignal) => share.take(sprite, bytes, signal);
      const server = createRelayServer({ store, log: pino({ level: "silent" }), onHead: () => {}, takeShare });
      await once(server.listen(0, "127.0.0.1"), "listening");
      servers.set(sprite, server);
    }
    const put = (sprite: string, key: string, data: Buffer, send: Sent = "all"): Upload => {
      const { port } = servers.get(sprite)?.address() as AddressInfo;
      const outgoing = request({
        agent,
        port,
        host: "127.0.0.1",
        method: "PUT",
        path: RELAY.objects + key,
        headers: { "content-length": data.length },
      });
      const status = new Promise<number>((resolve, reject) => {
        outgoing.once("error", reject).once("response", (response) => {
          response.resume().once("end", () => resolve(response.statusCode ?? 0));
        });
      });
      if (send === "all") outgoing.end(data);
      else outgoing.flushHeaders();
      const connected = once(outgoing, "socket");
      connected.catch(() => {});
      return { status, connected, abort: () => outgoing.destroy() };
    };
    try {
      await body(put, store);
    } finally {
      store.open();
      agent.destroy();
      for (const server of servers.values()) {
        server.close();
        server.closeAllConnections();
      }
    }
  }

  test("makes one that uploads at full speed wait, with its bytes outside, while others go on; nothing fails", async () => {
    const share = new UploadShare({ requests: 3, bytes: 1 << 24, requestsOfOne: 2 });
    await withServer(share, async (put, store) => {
      const data = Buffer.alloc(1 << 20, "x");
      const hogging = Array.from({ length: 6 }, (_, index) => put("hog", `h${index}`, data));
      await store.arrived(2);
      const other = put("other", "o", Buffer.from("small"));
      await store.arrived(3);
      assert.deepEqual([...store.waiting.keys()].sort(), ["h0", "h1", "o"]);
      store.letGo("o");
      assert.equal(await other.status, 200);
      store.open();
      assert.deepEqual(await Promise.all(hogging.map(({ status }) => status)), Array(6).fill(200));
      assert.equal((await store.get("h5"))?.data.length, data.length);
    });
  });

  test("is not held up by one that announces much and sends nothing", async () => {
    const share = new UploadShare({ requests: 1, bytes: 1 << 24, requestsOfOne: 1 });
    await withServer(share, async (put, store) => {
      store.open();
      const silent = [1, 2, 3].map((index) => put("hog", `s${index}`, Buffer.alloc(8 << 20), "send nothing"));
      for (const { status } of silent) status.catch(() => {});
      await Promise.all(silent.map(({ connected }) => connected));
      assert.equal(await put("other", "o", Buffer.from("x")).status, 200);
      for (const { abort } of silent) abort();
      assert.equal(await put("hog", "h", Buffer.from("x")).status, 200, "its own places are free again");
    });
  });

  test("gives the place of one whose VM has gone to the next", async () => {
    const share = new UploadShare({ requests: 1, bytes: 1 << 24, requestsOfOne: 1 });
    await withServer(share, async (put, store) => {
      const first = put("hog", "h", Buffer.from("x"));
      await store.arrived(1);
      const second = put("hog", "gone", Buffer.from("x"));
      second.status.catch(() => {});
      const third = put("other", "o", Buffer.from("x"));
      first.status.catch(() => {});
      second.abort();
      first.abort();
      store.letGo("h");
      await store.arrived(2);
      store.open();
      assert.equal(await third.status, 200);
    });
  });

  test("refuses what is too large without waiting", async () => {
    await withServer(new UploadShare(), async (put) => {
      assert.equal(await put("hog", "h", Buffer.alloc((32 << 20) + 1)).status.catch(() => 413), 413);
    });
  });
});

type Sent = "all" | "send nothing";

interface Upload {
  status: Promise<number>;
  connected: Promise<unknown>;
  abort: () => void;
}

/** Writes wait until they are let go. */
class SlowStore extends MemoryStore {
  readonly waiting = new Map<string, () => void>();
  #isOpen = false;
  #arrived = 0;
  #changed = Promise.withResolvers<void>();

  override async put(...args: Parameters<MemoryStore["put"]>): ReturnType<MemoryStore["put"]> {
    this.#arrived++;
    const gate = Promise.withResolvers<void>();
    if (this.#isOpen) gate.resolve();
    else this.waiting.set(args[0], gate.resolve);
    this.#changed.resolve();
    await gate.promise;
    return super.put(...args);
  }

  /** Waits until so many writes have come in all. */
  async arrived(count: number): Promise<void> {
    while (this.#arrived < count) {
      await this.#changed.promise;
      this.#changed = Promise.withResolvers();
    }
  }

  letGo(key: string): void {
    this.waiting.get(key)?.();
    this.waiting.delete(key);
  }

  open(): void {
    this.#isOpen = true;
    for (const key of [...this.waiting.keys()]) this.letGo(key);
  }
}
