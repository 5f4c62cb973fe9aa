/** Objects of the store and files of an export: whoever can write to the store can send them. */
import { createHash } from "node:crypto";
import { decodeChunk, encodeChunk } from "../../../../packages/storage/src/format/chunk-codec.ts";
import {
  checkpointSchema,
  decodeDocument,
  encodeDocument,
  headSchema,
  spriteSchema,
} from "../../../../packages/storage/src/format/documents.ts";
import { BLOCK_BYTES } from "../../../../packages/storage/src/format/limits.ts";
import { decodePack, PackBuilder } from "../../../../packages/storage/src/format/pack.ts";
import { decodePage, encodePage, type Page } from "../../../../packages/storage/src/format/page.ts";
import { exportSprite } from "../../../../packages/storage/src/maintenance/export.ts";
import { fsck } from "../../../../packages/storage/src/maintenance/fsck.ts";
import { importSprite } from "../../../../packages/storage/src/maintenance/import.ts";
import { Encoding } from "../../../../packages/storage/src/map/chunk-ref.ts";
import { acquire } from "../../../../packages/storage/src/ownership/acquire.ts";
import { isObjectKey } from "../../../../packages/storage/src/store/object-key.ts";
import { parseErrorAnswer, parseListAnswer } from "../../../../packages/storage/src/store/s3-xml.ts";
import { Uploader } from "../../../../packages/storage/src/upload/uploader.ts";
import { changesOf } from "../../../../packages/storage/test/support/blocks.ts";
import { MemoryStore } from "../../../../packages/storage/test/support/memory-store.ts";
import { mutated, mutatedText, pieces } from "../mutate.ts";
import { ensure, type Target, target } from "../target.ts";
import { parsed, parsedLater } from "../verdict.ts";

const DAMAGE = ["data_damaged", "store_unsupported"] as const;
const HASH = "ab".repeat(32);
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

const PAGES: readonly Page[] = [
  {
    level: 0,
    entries: new Map([
      [0, { hash: HASH, pack: HASH, offset: 24, storedBytes: 100, encoding: Encoding.zstd }],
      [255, { hash: HASH, pack: "cd".repeat(32), offset: 24, storedBytes: BLOCK_BYTES, encoding: Encoding.raw }],
    ]),
  },
  { level: 1, entries: new Map([[3, { page: HASH, blocks: 256 }]]) },
  { level: 2, entries: new Map([[0, { page: HASH, blocks: 65_536 }]]) },
];

const pages = target<Buffer>({ name: "pages", summary: "pages of the chunk map", weight: 3 }, () => {
  const corpus = PAGES.map((page) => encodePage(page).bytes);
  return {
    input: (random) => mutated(random, corpus),
    run: (bytes) =>
      parsed(
        () => decodePage("page", bytes),
        // The eight bytes of the header that make a page its own differ each time.
        (page) => ensure(withoutSalt(encodePage(page).bytes).equals(withoutSalt(bytes)), () => "it would be written otherwise"),
        DAMAGE,
      ),
  };
});

const withoutSalt = (bytes: Buffer): Buffer => Buffer.concat([bytes.subarray(0, 16), bytes.subarray(24)]);

const packs = target<Buffer>({ name: "packs", summary: "packs of chunks", weight: 3 }, () => {
  const builder = new PackBuilder();
  for (let i = 0; i < 3; i++) builder.add(HASH, { encoding: Encoding.zstd, bytes: Buffer.alloc(50 + i, i) });
  const corpus = [Buffer.from(builder.seal().bytes)];
  return {
    input: (random) => mutated(random, corpus),
    run: (bytes) =>
      parsed(
        () => decodePack("pack", bytes),
        (entries) =>
          ensure(
            entries.every(({ offset, storedBytes }) => offset + storedBytes <= bytes.length),
            () => "a chunk lies outside",
          ),
        DAMAGE,
      ),
  };
});

const chunks = target<{ bytes: Buffer; encoding: Encoding }>({ name: "chunks", summary: "compressed chunks", weight: 0.3 }, async () => {
  const block = Buffer.alloc(BLOCK_BYTES, "content ");
  const { bytes } = await encodeChunk(block);
  const hash = sha256(block);
  return {
    input: (random) => ({ bytes: mutated(random, [bytes]), encoding: random.pick([Encoding.zstd, Encoding.zstd, Encoding.raw]) }),
    run: (chunk) =>
      parsedLater(
        () => decodeChunk("pack", chunk, hash),
        (data) => ensure(data.equals(block), () => "another content has this hash"),
        DAMAGE,
      ),
  };
});

const TIME = "2026-01-02T03:04:05Z";
const DOCUMENTS = [
  {
    schema: headSchema,
    value: {
      format: "hob-head",
      version: 1,
      sprite: "s1",
      owner: "host",
      epoch: 1,
      acquiredAt: TIME,
      writtenAt: TIME,
      writeId: "0".repeat(32),
      volumeBytes: BLOCK_BYTES,
      root: HASH,
      bases: [HASH],
      storedBlocks: 1,
      parent: null,
      checkpoints: [{ id: "v1", document: HASH }],
      lastCheckpoint: 1,
    },
  },
  {
    schema: checkpointSchema,
    value: {
      format: "hob-checkpoint",
      version: 1,
      sprite: "s1",
      id: "v1",
      comment: "c",
      createdAt: TIME,
      parent: null,
      root: null,
      volumeBytes: BLOCK_BYTES,
      storedBlocks: 0,
      automatic: false,
      epoch: 1,
    },
  },
  {
    schema: spriteSchema,
    value: {
      format: "hob-sprite",
      version: 1,
      id: "s1",
      name: "box",
      organization: "hob",
      machineId: "0".repeat(32),
      labels: [],
      createdAt: TIME,
      machine: { cpus: 1, ramMb: 512, storageGb: 1 },
      environment: { A: "1" },
      settings: {},
    },
  },
] as const;

const documents = target<{ index: number; bytes: Buffer }>(
  { name: "store-documents", summary: "heads, checkpoints and descriptions in the store", weight: 2 },
  () => {
    const corpus = DOCUMENTS.map(({ value }) => Buffer.from(`${JSON.stringify(value)}\n`));
    return {
      input: (random) => ({ index: random.below(DOCUMENTS.length), bytes: mutated(random, corpus) }),
      run: ({ index, bytes }) =>
        parsed(
          () => decodeDocument("document", bytes, (DOCUMENTS[index] as (typeof DOCUMENTS)[0]).schema),
          (document) => void encodeDocument(document),
          DAMAGE,
        ),
    };
  },
);

/** A store with a sprite of two checkpoints, and its export. */
async function exported(): Promise<Buffer> {
  const store = new MemoryStore();
  const owned = await acquire({ store, org: "org", sprite: "s1", owner: "host", initial: { volumeBytes: 100 * BLOCK_BYTES } });
  const uploader = new Uploader({ store, org: "org" });
  let root: string | null = null;
  for (const [id, changes] of [
    [
      "v1",
      [
        [0, 1],
        [5, 2],
      ],
    ],
    [
      "v2",
      [
        [5, 0],
        [9, 3],
      ],
    ],
  ] as [string, [number, number][]][]) {
    const uploaded = await uploader.upload(root, changesOf(changes));
    root = uploaded.root;
    await owned.publish(uploaded);
    await owned.addCheckpoint(
      { id, comment: id, createdAt: TIME, root, storedBlocks: uploaded.storedBlocks, automatic: false },
      { parent: id },
    );
  }
  const parts: Buffer[] = [];
  for await (const part of exportSprite({ store, org: "org", sprite: "s1" })) parts.push(part);
  return Buffer.concat(parts);
}

/** The end of an export is the checksum of all before it: put right, a mutation reaches what is behind that check. */
function withChecksum(bytes: Buffer): Buffer {
  const END_BYTES = 5 + 32;
  if (bytes.length < END_BYTES) return bytes;
  const body = bytes.subarray(0, bytes.length - END_BYTES);
  return Buffer.concat([body, bytes.subarray(body.length, body.length + 5), createHash("sha256").update(body).digest()]);
}

const exports = target<{ bytes: Buffer; parts: Buffer[] }>(
  { name: "exports", summary: "files that `hob import` reads", weight: 0.3 },
  async () => {
    const corpus = [await exported()];
    return {
      input: (random) => {
        const bytes = mutated(random, corpus);
        const sent = random.chance(0.7) ? withChecksum(bytes) : bytes;
        return { bytes: sent, parts: pieces(random, sent) };
      },
      run: async ({ parts }) => {
        const store = new MemoryStore();
        const verdict = await parsedLater(
          () => importSprite({ store, org: "org", sprite: "s2", owner: "host", source: asyncOf(parts) }),
          undefined,
          ["store_unsupported", "data_damaged"],
        );
        const { damage } = await fsck({ store, org: "org" });
        ensure(damage.length === 0, () => `it left damage in the store: ${JSON.stringify(damage)}`);
        ensure(verdict === "accepted" || !store.objects.has("orgs/org/sprites/s2/head.json"), () => "a refused import left a sprite");
        return verdict;
      },
    };
  },
);

async function* asyncOf(parts: readonly Buffer[]): AsyncGenerator<Buffer> {
  yield* parts;
}

const XML = [
  '<?xml version="1.0"?><ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a%2Fb</Key><Size>3</Size><LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents><NextContinuationToken>a/b=</NextContinuationToken></ListBucketResult>',
  "<Error><Code>NoSuchKey</Code><Message>x &amp; y &#x41;&#1114112;</Message><Region>eu-west-3</Region></Error>",
];

const answers = target<string>({ name: "s3-answers", summary: "XML that an object store answers with", weight: 2 }, () => ({
  input: (random) => mutatedText(random, XML),
  run: (xml) => {
    parseErrorAnswer(xml);
    isObjectKey(xml);
    return parsed(
      () => parseListAnswer(xml),
      ({ objects }) =>
        ensure(
          objects.every(({ sizeBytes }) => Number.isSafeInteger(sizeBytes)),
          () => "a size that is no number",
        ),
      ["store_failed", "store_unavailable"],
    );
  },
}));

export const storageTargets: readonly Target[] = [pages, packs, chunks, documents, exports, answers];
