import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import fc from "fast-check";
import { sha256 } from "../src/format/hash.ts";
import { BLOCK_BYTES } from "../src/format/limits.ts";
import { BlockReader } from "../src/read/block-reader.ts";
import { DiskCache } from "../src/read/disk-cache.ts";
import { Uploader } from "../src/upload/uploader.ts";
import { blockOf, changesOf } from "./support/blocks.ts";
import { FaultyStore } from "./support/faulty-store.ts";
import { MemoryStore } from "./support/memory-store.ts";

const folder = mkdtempSync(join(tmpdir(), "hob-cache-"));
after(() => rmSync(folder, { recursive: true }));
let folders = 0;
const fresh = (): string => join(folder, String(folders++));
const hashOf = (seed: number): string => sha256(blockOf(seed));
const WRITER = join(import.meta.dirname, "support/cache-writer.ts");

/** What a cache of so many places should have: hashes, the one used longest ago first. */
class Model {
  readonly held: number[] = [];
  readonly #places: number;

  constructor(places: number) {
    this.#places = places;
  }

  get(seed: number): boolean {
    const at = this.held.indexOf(seed);
    if (at < 0) return false;
    this.held.push(...this.held.splice(at, 1));
    return true;
  }

  put(seed: number): void {
    if (this.get(seed)) return;
    if (this.held.length >= this.#places) this.held.shift();
    this.held.push(seed);
  }

  drop(seed: number): void {
    const at = this.held.indexOf(seed);
    if (at >= 0) this.held.splice(at, 1);
  }
}

describe("the cache on disk", () => {
  it("has what a model of it has: what was used longest ago gives way", () => {
    const seed = fc.integer({ min: 1, max: 8 });
    const step = fc.oneof(fc.record({ put: seed }), fc.record({ get: seed }), fc.record({ drop: seed }));
    return fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 5 }), fc.array(step, { maxLength: 40 }), async (places, steps) => {
        const directory = fresh();
        await using cache = new DiskCache({ directory, maxBytes: places * BLOCK_BYTES });
        const model = new Model(places);
        for (const one of steps) {
          if ("put" in one) {
            await cache.put(hashOf(one.put), blockOf(one.put));
            model.put(one.put);
          } else if ("drop" in one) {
            await cache.drop(hashOf(one.drop));
            model.drop(one.drop);
          } else {
            const data = await cache.get(hashOf(one.get));
            assert.equal(data !== undefined, model.get(one.get));
            assert.ok(data === undefined || data.equals(blockOf(one.get)));
          }
        }
        await cache[Symbol.asyncDispose]();
        await using again = new DiskCache({ directory, maxBytes: places * BLOCK_BYTES });
        for (let one = 1; one <= 8; one++)
          assert.equal((await again.get(hashOf(one)))?.equals(blockOf(one)) ?? false, model.held.includes(one));
      }),
      { numRuns: 60 },
    );
  });

  it("takes no more space than it may, and begins anew when its size changes", async () => {
    const directory = fresh();
    {
      await using cache = new DiskCache({ directory, maxBytes: 4 * BLOCK_BYTES + 5 });
      for (let seed = 1; seed <= 20; seed++) await cache.put(hashOf(seed), blockOf(seed));
      assert.equal(statSync(join(directory, "chunks")).size, 4 * BLOCK_BYTES);
      await cache.put("0".repeat(64), Buffer.alloc(10));
      assert.equal(await cache.get("0".repeat(64)), undefined, "that is no chunk");
    }
    await using larger = new DiskCache({ directory, maxBytes: 5 * BLOCK_BYTES });
    for (let seed = 1; seed <= 20; seed++) assert.equal(await larger.get(hashOf(seed)), undefined);
    assert.deepEqual(readdirSync(directory).sort(), ["chunks", "index"]);
  });

  it("does not grow where others need the space, and goes on with what it has", async () => {
    const directory = fresh();
    const options = { directory, maxBytes: 10 * BLOCK_BYTES };
    {
      await using cache = new DiskCache(options);
      await cache.put(hashOf(1), blockOf(1));
    }
    await using cache = new DiskCache({ ...options, minFreeBytes: 2 ** 60 });
    for (const seed of [2, 3]) {
      await cache.put(hashOf(seed), blockOf(seed));
      assert.ok((await cache.get(hashOf(seed)))?.equals(blockOf(seed)));
    }
    assert.equal(await cache.get(hashOf(1)), undefined);
    assert.equal(statSync(join(directory, "chunks")).size, BLOCK_BYTES);
  });

  it("gives no reader what is wrong: that is dropped and fetched again", async () => {
    const memory = new MemoryStore();
    const { root } = await new Uploader({ store: memory, org: "org" }).upload(
      null,
      changesOf([0, 1, 2, 3].map((block) => [block, block + 1])),
    );
    const directory = fresh();
    const options = { directory, maxBytes: 8 * BLOCK_BYTES };
    const read = async (): Promise<{ fetched: number; cacheHits: number }> => {
      await using cache = new DiskCache(options);
      const reader = new BlockReader({ store: new FaultyStore(memory), org: "org", root, cache });
      const blocks = await reader.readBlocks(0, 4);
      for (const [block, data] of blocks.entries()) assert.ok(data.equals(blockOf(block + 1)));
      const { fetched, cacheHits } = reader.stats;
      return { fetched, cacheHits };
    };
    assert.deepEqual(await read(), { fetched: 4, cacheHits: 0 });
    assert.deepEqual(await read(), { fetched: 0, cacheHits: 4 });
    const chunks = readFileSync(join(directory, "chunks"));
    chunks.writeUInt8(chunks.readUInt8(BLOCK_BYTES + 77) ^ 4, BLOCK_BYTES + 77);
    writeFileSync(join(directory, "chunks"), chunks.subarray(0, 3 * BLOCK_BYTES + 100));
    assert.deepEqual(await read(), { fetched: 2, cacheHits: 2 }, "one is damaged, one cut short");
    assert.deepEqual(await read(), { fetched: 0, cacheHits: 4 });
    const index = readFileSync(join(directory, "index"));
    for (const at of [16 + 3, 16 + 48 + 33, 16 + 96 + 41]) {
      const damaged = Buffer.from(index);
      damaged.writeUInt8(damaged.readUInt8(at) ^ 1, at);
      writeFileSync(join(directory, "index"), damaged);
      assert.deepEqual(await read(), { fetched: 1, cacheHits: 3 }, `byte ${at} of the index`);
    }
    for (const bad of [Buffer.alloc(0), Buffer.from("HOBCACH2 and more"), index.subarray(0, 9)]) {
      writeFileSync(join(directory, "index"), bad);
      assert.equal((await read()).fetched, 4);
    }
    rmSync(join(directory, "chunks"));
    assert.equal((await read()).fetched, 4);
  });

  it("survives the end of its process at any moment", { timeout: 60_000 }, async () => {
    const directory = fresh();
    let found = 0;
    for (let round = 0; round < 6; round++) {
      const child = fork(WRITER, [directory, String(round)]);
      await once(child, "message");
      child.kill("SIGKILL");
      await once(child, "exit");
      await using cache = new DiskCache({ directory, maxBytes: 16 * BLOCK_BYTES });
      for (let seed = 1; seed <= 40; seed++) {
        const data = await cache.get(hashOf(seed));
        // A place may hold what was being written to it: the hash tells, as it tells every reader.
        if (data !== undefined && sha256(data) === hashOf(seed)) found++;
        else await cache.drop(hashOf(seed));
      }
      for (let seed = 1; seed <= 16; seed++) await cache.put(hashOf(seed), blockOf(seed));
      for (let seed = 1; seed <= 16; seed++) assert.ok((await cache.get(hashOf(seed)))?.equals(blockOf(seed)), `${seed} after the crash`);
    }
    assert.ok(found > 0, "what was written is there");
  });
});
