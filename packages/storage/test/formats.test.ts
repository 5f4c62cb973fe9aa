import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { HobError } from "@hob/protocol";
import fc from "fast-check";
import { decodeChunk, encodeChunk, isZeroBlock } from "../src/format/chunk-codec.ts";
import { checkpointSchema, decodeDocument, encodeDocument, headSchema } from "../src/format/documents.ts";
import { sha256 } from "../src/format/hash.ts";
import { isStorageName, OrgKeys } from "../src/format/keys.ts";
import { BLOCK_BYTES, MAX_DOCUMENT_BYTES } from "../src/format/limits.ts";
import { decodePack, PackBuilder } from "../src/format/pack.ts";
import { decodePage, encodePage, MAX_PAGE_BYTES, type Page, storedBlocks } from "../src/format/page.ts";
import { Encoding } from "../src/map/chunk-ref.ts";
import { isObjectKey } from "../src/store/object-key.ts";
import { blockOf } from "./support/blocks.ts";
import { rejectsWith } from "./support/store-contract.ts";

const aHash = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString("hex"));
const plain = { noNullPrototype: true };
const aZstdRef = fc.record(
  {
    hash: aHash,
    pack: fc.nat(5).map((number) => sha256(Buffer.from([number]))),
    offset: fc.integer({ min: 24, max: 1e6 }),
    storedBytes: fc.integer({ min: 1, max: BLOCK_BYTES - 1 }),
    encoding: fc.constant(Encoding.zstd),
  },
  plain,
);
const aRawRef = fc.record(
  {
    hash: aHash,
    pack: aHash,
    offset: fc.integer({ min: 24, max: 1e6 }),
    storedBytes: fc.constant(BLOCK_BYTES),
    encoding: fc.constant(Encoding.raw),
  },
  plain,
);
const aRef = fc.oneof(aZstdRef, aRawRef);
const aChild = (most: number) => fc.record({ page: aHash, blocks: fc.integer({ min: 1, max: most }) }, plain);
const entriesOf = <T>(value: fc.Arbitrary<T>) =>
  fc
    .uniqueArray(fc.tuple(fc.integer({ min: 0, max: 255 }), value), { minLength: 1, maxLength: 256, selector: ([index]) => index })
    .map((all) => new Map(all));
const aPage: fc.Arbitrary<Page> = fc.oneof(
  entriesOf(aRef).map((entries): Page => ({ level: 0, entries })),
  entriesOf(aChild(256)).map((entries): Page => ({ level: 1, entries })),
  entriesOf(aChild(65_536)).map((entries): Page => ({ level: 2, entries })),
);

const sorted = (page: Page): [number, unknown][] => [...(page.entries as ReadonlyMap<number, unknown>)].sort(([a], [b]) => a - b);

/** Decoding either works or says what is damaged; it does nothing else. */
function decodesOrRefuses(decode: () => unknown): boolean {
  try {
    decode();
    return true;
  } catch (error) {
    // A digit of the magic number may have become that of a newer version.
    assert.ok(error instanceof HobError && ["data_damaged", "store_unsupported"].includes(error.code), String(error));
    return false;
  }
}

/** Some bytes changed, cut off or added. */
const aMutation = fc.record({
  at: fc.nat(),
  xor: fc.integer({ min: 1, max: 255 }),
  cut: fc.option(fc.nat(), { freq: 4 }),
  add: fc.option(fc.uint8Array({ maxLength: 50 }), { freq: 4 }),
});
type Mutation = typeof aMutation extends fc.Arbitrary<infer T> ? T : never;

function mutate(bytes: Buffer, { at, xor, cut, add }: Mutation): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(at % copy.length) ^ xor, at % copy.length);
  return Buffer.concat([cut === null ? copy : copy.subarray(0, cut % copy.length), add ?? Buffer.alloc(0)]);
}

describe("pages", () => {
  it("are decoded as they were encoded", () => {
    fc.assert(
      fc.property(aPage, (page) => {
        const { name, bytes } = encodePage(page);
        assert.equal(name, sha256(bytes));
        assert.ok(bytes.length <= MAX_PAGE_BYTES);
        const decoded = decodePage("page", bytes);
        assert.equal(decoded.level, page.level);
        assert.deepEqual(sorted(decoded), sorted(page));
        assert.equal(storedBlocks(decoded), storedBlocks(page));
        assert.notEqual(encodePage(page).name, name);
      }),
      { numRuns: 100 },
    );
  });

  it("are refused when they are anything else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) =>
        assert.ok(!decodesOrRefuses(() => decodePage("page", Buffer.from(bytes)))),
      ),
    );
    fc.assert(
      fc.property(
        aPage,
        aMutation,
        (page, mutation) => void decodesOrRefuses(() => decodePage("page", mutate(encodePage(page).bytes, mutation))),
      ),
      { numRuns: 500 },
    );
  });
});

describe("packs", () => {
  const someChunks = fc.array(fc.tuple(aHash, fc.uint8Array({ minLength: 1, maxLength: 300 })), { minLength: 1, maxLength: 20 });
  const build = (chunks: readonly (readonly [string, Uint8Array])[]) => {
    const builder = new PackBuilder();
    const offsets = chunks.map(([hash, bytes]) => builder.add(hash, { encoding: Encoding.zstd, bytes: Buffer.from(bytes) }));
    return { offsets, size: builder.sizeBytes, sealed: builder.seal() };
  };

  it("are decoded as they were built", () => {
    fc.assert(
      fc.property(someChunks, (chunks) => {
        const { offsets, size, sealed } = build(chunks);
        assert.equal(sealed.name, sha256(sealed.bytes));
        assert.equal(size, sealed.bytes.length);
        const entries = decodePack("pack", sealed.bytes);
        assert.deepEqual(
          entries,
          chunks.map(([hash, bytes], number) => ({ hash, offset: offsets[number], storedBytes: bytes.length, encoding: 1 })),
        );
        for (const [number, { offset, storedBytes }] of entries.entries())
          assert.deepEqual(sealed.bytes.subarray(offset, offset + storedBytes), Buffer.from(chunks[number]?.[1] ?? []));
      }),
    );
  });

  it("are refused when they are anything else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) =>
        assert.ok(!decodesOrRefuses(() => decodePack("pack", Buffer.from(bytes)))),
      ),
    );
    fc.assert(
      fc.property(
        someChunks,
        aMutation,
        (chunks, mutation) => void decodesOrRefuses(() => decodePack("pack", mutate(build(chunks).sealed.bytes, mutation))),
      ),
      { numRuns: 500 },
    );
  });

  it("say when they are full", () => {
    const builder = new PackBuilder();
    const chunk = { encoding: Encoding.raw, bytes: Buffer.alloc(BLOCK_BYTES) };
    while (builder.fits(chunk)) builder.add("0".repeat(64), chunk);
    const { bytes } = builder.seal();
    assert.ok(bytes.length <= 32 * 1024 * 1024 && bytes.length > 31.9 * 1024 * 1024);
  });
});

describe("chunks", () => {
  it("are compressed when that makes them smaller, and come back", async () => {
    for (const [seed, encoding] of [
      [2, Encoding.zstd],
      [3, Encoding.raw],
    ] as const) {
      const data = blockOf(seed);
      const stored = await encodeChunk(data);
      assert.equal(stored.encoding, encoding);
      assert.ok((await decodeChunk("pack", stored, sha256(data))).equals(data));
      await assert.rejects(decodeChunk("pack", stored, sha256(blockOf(5))), rejectsWith("data_damaged"));
    }
    assert.ok(isZeroBlock(blockOf(0)));
    assert.ok(!isZeroBlock(blockOf(2)));
  });

  it("never take more memory than a block, whatever they claim", async () => {
    const { zstdCompressSync } = await import("node:zlib");
    for (const size of [BLOCK_BYTES + 1, 100_000_000]) {
      const bomb = { encoding: Encoding.zstd, bytes: zstdCompressSync(Buffer.alloc(size, "b")) };
      await assert.rejects(decodeChunk("pack", bomb, "0".repeat(64)), rejectsWith("data_damaged"));
    }
    const short = { encoding: Encoding.zstd, bytes: zstdCompressSync(Buffer.alloc(100)) };
    await assert.rejects(decodeChunk("pack", short, sha256(Buffer.alloc(100))), /100 bytes/);
    await assert.rejects(
      decodeChunk("pack", { encoding: Encoding.zstd, bytes: Buffer.from("no frame") }, "0".repeat(64)),
      rejectsWith("data_damaged"),
    );
  });
});

describe("documents", () => {
  it("are refused when they are something else", () => {
    fc.assert(
      fc.property(fc.oneof(fc.json(), fc.string()), (text) =>
        assert.ok(!decodesOrRefuses(() => decodeDocument("doc", Buffer.from(text), headSchema))),
      ),
    );
    assert.ok(!decodesOrRefuses(() => decodeDocument("doc", Buffer.from([0xff, 0xfe]), checkpointSchema)));
    assert.ok(!decodesOrRefuses(() => decodeDocument("doc", Buffer.alloc(MAX_DOCUMENT_BYTES + 1, " "), checkpointSchema)));
  });

  it("are not written when they break the format", () => {
    const wrong = { format: "hob-checkpoint", version: 1 } as Parameters<typeof encodeDocument>[0];
    assert.throws(() => encodeDocument(wrong), rejectsWith("invalid_request"));
  });
});

describe("keys", () => {
  it("are made of checked parts only", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (org, sprite) => {
        if (!isStorageName(org) || !isStorageName(sprite)) {
          assert.throws(() => new OrgKeys(org).sprite(sprite), rejectsWith("invalid_request"));
          return;
        }
        assert.ok(isObjectKey(new OrgKeys(org).sprite(sprite).head));
      }),
    );
    assert.ok(isObjectKey(new OrgKeys("default").sprite("sprite-0b9a").checkpoint("v1", "ab".repeat(32))));
  });
});
