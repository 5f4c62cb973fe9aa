import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import type { ChunkRef } from "@hob/storage";
import { type Chunk, cut, readAtRandom, readSequentially, rechunk, renumber } from "../bench/rechunk.ts";
import { type ChangedBlock, changedPages } from "../bench/volume-states.ts";

const KIB = 1024;
const BLOCK = 64 * KIB;

async function* iterate<T>(...items: T[]): AsyncGenerator<T> {
  yield* items;
}

async function collect(chunks: AsyncIterable<Chunk>): Promise<Chunk[]> {
  const all: Chunk[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return all;
}

const unread = (block: number): never => assert.fail(`block ${block} is read`);

/** A block of which only the given bytes differ from what it was. */
function changed(block: number, ...at: number[]): ChangedBlock {
  const before = randomBytes(BLOCK);
  const after = Buffer.from(before);
  for (const byte of at) after.writeUInt8(after.readUInt8(byte) ^ 1, byte);
  return { block, before, after };
}

test("the pages of a block that differ, zeros before or after included", () => {
  assert.deepEqual(changedPages(changed(0, 5, 4095, 4096, BLOCK - 1)), [0, 1, 15]);
  const data = Buffer.alloc(BLOCK);
  data.writeUInt8(1, 8192);
  assert.deepEqual(changedPages({ block: 0, before: undefined, after: data }), [2]);
  assert.deepEqual(changedPages({ block: 0, before: data, after: undefined }), [2]);
});

test("smaller chunks: only those that differ; zeros are none", async () => {
  const change = changed(3, 0, 40 * KIB);
  const chunks = await collect(cut(iterate(change), 16 * KIB, unread));
  assert.deepEqual(
    chunks.map(({ number }) => number),
    [12, 14],
  );
  assert.ok(chunks[1]?.data?.equals(change.after?.subarray(32 * KIB, 48 * KIB) as Buffer));
  const discarded = await collect(cut(iterate({ block: 1, before: change.before, after: undefined }), 32 * KIB, unread));
  assert.deepEqual(discarded, [
    { number: 2, data: undefined },
    { number: 3, data: undefined },
  ]);
});

test("larger chunks: one for all its blocks, filled up with the neighbours", async () => {
  const read: number[] = [];
  const readBlock = async (block: number): Promise<Buffer> => {
    read.push(block);
    return Buffer.alloc(BLOCK, block);
  };
  const chunks = await collect(cut(iterate(changed(4, 0), changed(7, 0), changed(8, 0)), 4 * BLOCK, readBlock));
  assert.deepEqual(
    chunks.map(({ number }) => number),
    [1, 2],
  );
  assert.deepEqual(read, [4, 5, 6, 7, 8, 9, 10, 11]);
  assert.deepEqual([...(chunks[0]?.data?.subarray(BLOCK - 1, BLOCK + 1) ?? [])], [4, 5]);
  assert.deepEqual(await collect(cut(iterate(changed(0, 0)), 2 * BLOCK, async () => Buffer.alloc(BLOCK))), [
    { number: 0, data: undefined },
  ]);
});

test("blocks have other numbers with chunks of another size, each once", () => {
  assert.deepEqual([...renumber([1, 5], 16 * KIB)], [4, 5, 6, 7, 20, 21, 22, 23]);
  assert.deepEqual([...renumber([1, 5], BLOCK)], [1, 5]);
  assert.deepEqual([...renumber([0, 1, 5, 6, 7], 2 * BLOCK)], [0, 2, 3]);
});

test("an upload counts packs and pages, and equal chunks once", async () => {
  const same = randomBytes(BLOCK);
  const chunks = [0, 1, 2].map((number): Chunk => ({ number, data: number === 1 ? randomBytes(BLOCK) : same }));
  const result = await rechunk([0, 1, 2, 300], iterate(...chunks, { number: 300, data: undefined }), {
    chunkBytes: BLOCK,
    packBytes: BLOCK / 2,
  });
  assert.equal(result.chunks, 2);
  assert.equal(result.plainBytes, 2 * BLOCK);
  // Two packs, for each is full with one chunk; the leaf of blocks 0 to 255 and the two pages above it.
  assert.equal(result.objects, 2 + 3);
  assert.ok(result.storedBytes > 2 * BLOCK && result.storedBytes < 2 * BLOCK + 2_000, String(result.storedBytes));
  assert.deepEqual(result.sequential, { requests: 2, bytes: 2 * BLOCK });
  const one = await rechunk([], iterate(...chunks), { chunkBytes: BLOCK, packBytes: 8 * 1024 * KIB });
  assert.equal(one.objects, 1 + 3);
  assert.equal(one.sequential.requests, 1, "neighbours in a pack come by one request");
});

test("reads fetch each chunk once: a window at a time in order, or where a page is touched", () => {
  const ref = (number: number): ChunkRef => ({
    hash: String(number),
    pack: "p",
    offset: 24 + number * BLOCK,
    storedBytes: BLOCK,
    encoding: 0,
  });
  const refs = new Map(Array.from({ length: 32 }, (_, number) => [number, ref(number)] as const));
  assert.deepEqual(readSequentially(refs, BLOCK), { requests: 2, bytes: 32 * BLOCK });
  assert.deepEqual(readAtRandom(refs, BLOCK), { requests: 32, bytes: 32 * BLOCK });
  assert.deepEqual(readAtRandom(new Map(), BLOCK), { requests: 0, bytes: 0 });
});
