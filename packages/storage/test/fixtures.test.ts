import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { HobError } from "@hob/protocol";
import { decodeChunk } from "../src/format/chunk-codec.ts";
import { checkpointSchema, decodeDocument, headSchema, spriteSchema, startSchema } from "../src/format/documents.ts";
import { decodePack } from "../src/format/pack.ts";
import { decodePage, storedBlocks } from "../src/format/page.ts";
import { importSprite } from "../src/maintenance/import.ts";
import { BlockReader } from "../src/read/block-reader.ts";
import { blockOf, differences, fakeRef } from "./support/blocks.ts";
import { MemoryStore } from "./support/memory-store.ts";

/**
 * Files as version 1 of the format has them, kept as they were written once: what reads them must go on reading them. Those
 * in `invalid` are named for what is wrong with them.
 */
const FIXTURES = join(import.meta.dirname, "fixtures");
const read = (name: string): Buffer => readFileSync(join(FIXTURES, name));

const decoders: Record<string, (bytes: Buffer) => unknown> = {
  page: (bytes) => decodePage("fixture", bytes),
  pack: (bytes) => decodePack("fixture", bytes),
  head: (bytes) => decodeDocument("fixture", bytes, headSchema),
  checkpoint: (bytes) => decodeDocument("fixture", bytes, checkpointSchema),
  sprite: (bytes) => decodeDocument("fixture", bytes, spriteSchema),
  start: (bytes) => decodeDocument("fixture", bytes, startSchema),
};

describe("fixtures of the format", () => {
  it("has valid pages", () => {
    const leaf = decodePage("leaf", read("valid/leaf.page"));
    assert.deepEqual([...leaf.entries.keys()], [0, 7, 255]);
    assert.deepEqual(leaf.entries.get(7), fakeRef(2));
    const inner = decodePage("inner", read("valid/inner.page"));
    assert.equal(inner.level, 1);
    assert.equal(storedBlocks(inner), 259);
    const root = decodePage("root", read("valid/root.page"));
    assert.equal(root.level, 2);
    assert.equal(storedBlocks(root), 65_536);
  });

  it("has a valid pack", async () => {
    const bytes = read("valid/two-chunks.pack");
    const entries = decodePack("pack", bytes);
    assert.equal(entries.length, 2);
    for (const [number, { offset, storedBytes, encoding, hash }] of entries.entries()) {
      const data = await decodeChunk("pack", { encoding, bytes: bytes.subarray(offset, offset + storedBytes) }, hash);
      assert.ok(data.equals(blockOf(number * 2 + 2)));
    }
  });

  it("has valid documents", () => {
    const head = decodeDocument("head", read("valid/v1.head"), headSchema);
    assert.deepEqual([head.owner, head.epoch, head.storedBlocks, head.parent], ["host-1", 1, 3, "v1"]);
    assert.equal(head.bases, undefined);
    const { bases } = decodeDocument("head", read("valid/over-bases.head"), headSchema);
    assert.deepEqual(bases, ["0a".repeat(32), "f1".repeat(32)]);
    assert.equal(head.lastAutomatic, undefined);
    const { lastCheckpoint, lastAutomatic } = decodeDocument("head", read("valid/automatic-gone.head"), headSchema);
    assert.deepEqual([lastCheckpoint, lastAutomatic], [1, 27]);
    const checkpoint = decodeDocument("checkpoint", read("valid/v1.checkpoint"), checkpointSchema);
    assert.deepEqual([checkpoint.id, checkpoint.comment, checkpoint.createdAt], ["v1", "the first", "2026-01-02T03:04:05.678Z"]);
    const sprite = decodeDocument("sprite", read("valid/web.sprite"), spriteSchema);
    assert.deepEqual([sprite.name, sprite.labels, sprite.environment], ["web", ["demo"], { NODE_ENV: "production" }]);
    const start = decodeDocument("start", read("valid/box.start"), startSchema);
    assert.deepEqual(start.reads, [
      [0, 2],
      [400, 1],
      [17, 3],
    ]);
  });

  it("has a valid export", async () => {
    const store = new MemoryStore();
    async function* source(): AsyncGenerator<Buffer> {
      yield read("valid/web.hobexp");
    }
    const { ownership } = await importSprite({ store, org: "org", sprite: "copy", owner: "me", source: source() });
    const reader = (root: string | null) => new BlockReader({ store, org: "org", root });
    const blocks = [0, 1, 5, 300, 301];
    const first = (await ownership.readCheckpoint("v1")).root;
    assert.deepEqual(
      await differences(
        reader(first),
        new Map([
          [0, 2],
          [1, 4],
          [300, 6],
        ]),
        blocks,
      ),
      [],
    );
    assert.deepEqual(
      await differences(
        reader(ownership.head.root),
        new Map([
          [5, 8],
          [1, 4],
          [300, 6],
        ]),
        blocks,
      ),
      [],
    );
  });

  const invalid = readdirSync(join(FIXTURES, "invalid")).sort();
  assert.ok(invalid.length >= 30);
  for (const name of invalid) {
    it(`refuses ${name}`, () => {
      const decode = decoders[name.split(".").at(-1) ?? ""] ?? assert.fail(name);
      const expected = name.includes("version-2") ? "store_unsupported" : "data_damaged";
      assert.throws(
        () => decode(read(`invalid/${name}`)),
        (error) => error instanceof HobError && error.code === expected,
      );
    });
  }
});
