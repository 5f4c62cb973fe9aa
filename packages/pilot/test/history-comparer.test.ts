import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ID_MAP } from "../src/container/ids.ts";
import type { ByteRange } from "../src/helper/index.ts";
import { presentAttributes } from "../src/history/attributes.ts";
import { Comparer } from "../src/history/comparer.ts";
import { deviceChanges } from "../src/history/device-changes.ts";

const MIB = 1024 * 1024;
const BLOCK = 64 * 1024;
const PAIR = { one: Buffer.from("/one"), other: Buffer.from("/other"), sizeBytes: 16 * MIB, onDevices: true };

describe("what a comparison asks", () => {
  function comparerWith(changes: () => Promise<readonly ByteRange[] | undefined>) {
    const seen: unknown[] = [];
    const progress = { paths: 0, bytes: 0 };
    const comparison = {
      tellChanges: (ranges: readonly ByteRange[]) => void seen.push(ranges),
      sameContent: async (_one: Buffer, _other: Buffer, onDevices: boolean, onRead: (bytes: number) => void = () => {}) => {
        onRead(2 * MIB);
        onRead(3 * MIB);
        seen.push(onDevices);
        return true;
      },
      attributes: async () => [],
    };
    const asked = { count: 0 };
    const counted = () => {
      asked.count++;
      return changes();
    };
    const comparer = new Comparer({ comparison, changes: counted, progress });
    return { comparer, seen, progress, asked };
  }

  test("is where the devices differ, once, and only for large files on them", async () => {
    const ranges = [{ begin: 0, length: BLOCK }];
    const { comparer, seen, progress, asked } = comparerWith(async () => ranges);
    await comparer.sameContent({ ...PAIR, sizeBytes: 1_000 });
    await comparer.sameContent({ ...PAIR, onDevices: false });
    assert.deepEqual([seen, asked.count], [[true, false], 0]);
    await comparer.sameContent(PAIR);
    await comparer.sameContent(PAIR);
    assert.deepEqual(seen.slice(2), [true, ranges, true]);
    assert.deepEqual([asked.count, progress.bytes], [1, 12 * MIB]);
  });

  test("is not waited for, and a failure of it is none of the comparison", { timeout: 10_000 }, async () => {
    const late = Promise.withResolvers<readonly ByteRange[]>();
    const waiting = comparerWith(() => late.promise);
    await waiting.comparer.sameContent(PAIR);
    assert.deepEqual(waiting.seen, [true]);
    late.resolve([]);
    await late.promise;
    await waiting.comparer.sameContent(PAIR);
    assert.deepEqual(waiting.seen, [true, [], true]);
    for (const changes of [() => Promise.reject(new Error("no delta")), async () => undefined]) {
      const { comparer, seen } = comparerWith(changes);
      assert.equal(await comparer.sameContent(PAIR), true);
      await new Promise(setImmediate);
      assert.deepEqual(seen, [true], "nothing is told");
    }
  });
});

describe("where two devices differ", () => {
  async function* blocks<T>(...ranges: T[]): AsyncGenerator<T> {
    yield* ranges;
  }
  const changed = (begin: number, length: number) => ({ begin, length, mapped: true });
  const sources = {
    changedBlocks: () => blocks(changed(1, 2), { ...changed(3, 1), mapped: false }, changed(10, 1)),
    originDifferences: () => blocks({ first: 0, count: 1 }, { first: 10, count: 5 }, { first: 20, count: 1 }),
  };
  const find = (before: { thin: number; origin: string | null }, after: { thin: number; origin: string | null }) =>
    deviceChanges(sources, before, after);

  test("is what one of them has written, and of different origins what these differ in", async () => {
    const written = [
      { begin: BLOCK, length: 3 * BLOCK },
      { begin: 10 * BLOCK, length: BLOCK },
    ];
    assert.deepEqual(await find({ thin: 1, origin: null }, { thin: 2, origin: null }), written);
    assert.deepEqual(await find({ thin: 1, origin: "map:a" }, { thin: 2, origin: "map:b" }), [
      { begin: 0, length: 4 * BLOCK },
      { begin: 10 * BLOCK, length: 5 * BLOCK },
      { begin: 20 * BLOCK, length: BLOCK },
    ]);
    assert.deepEqual(await find({ thin: 1, origin: "map:a" }, { thin: 1, origin: "map:a" }), []);
  });

  test("is not told in more ranges than are worth it", async () => {
    const scattered = {
      ...sources,
      async *changedBlocks() {
        for (let block = 0; block < 600_000; block += 2) yield changed(block, 1);
      },
    };
    assert.equal(await deviceChanges(scattered, { thin: 1, origin: null }, { thin: 2, origin: null }), undefined);
  });
});

test("attributes name users as they are named inside", () => {
  const bytes = (...fields: readonly (readonly [width: 2 | 4, value: number])[]) =>
    Buffer.concat(
      fields.map(([width, value]) => {
        const field = Buffer.alloc(width);
        field.writeUIntLE(value, 0, width);
        return field;
      }),
    );
  const own = ID_MAP.firstId;
  const sets = [
    [4, 1 << 13],
    [4, 0],
    [4, 0],
    [4, 0],
  ] as const;
  const [inside, outside] = [bytes([4, 0x02000001], ...sets), bytes([4, 0x03000001], ...sets, [4, own])];
  const foreign = bytes([4, 0x03000001], ...sets, [4, own + 5]);
  const list = (id: number) =>
    bytes([4, 2], [2, 0x01], [2, 6], [4, 0xffffffff], [2, 0x02], [2, 6], [4, id], [2, 0x08], [2, 4], [4, id + 1]);
  const text = (buffer: Buffer) => buffer.toString("base64");
  assert.deepEqual(
    presentAttributes([
      { name: "security.capability", before: outside, after: foreign },
      { name: "system.posix_acl_access", before: list(own + 1000), after: undefined },
      { name: "user.note", before: undefined, after: Buffer.from([0xff]) },
    ]),
    [
      { name: "security.capability", before: text(inside), after: text(foreign) },
      { name: "system.posix_acl_access", before: text(list(1000)), after: null },
      { name: "user.note", before: null, after: "/w==" },
    ],
  );
});
