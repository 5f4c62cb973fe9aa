import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { HobError } from "@hob/protocol";
import { initialState, Ledger, settle } from "../src/volume/ledger.ts";

let directory = "";
let path = "";

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "hob-ledger-"));
  path = join(directory, "volumes.json");
});
afterEach(() => rmSync(directory, { recursive: true }));

test("what an update made is there when it is opened again", async () => {
  const ledger = await Ledger.create(path);
  await ledger.update((state) => ({ ...state, undo: "auto-7", nextVersion: 9 }));
  assert.deepEqual((await Ledger.open(path)).state, { ...initialState, undo: "auto-7", nextVersion: 9 });
  assert.deepEqual(readdirSync(directory), ["volumes.json"]);
});

test("updates asked for at once happen one after the other", async () => {
  const ledger = await Ledger.create(path);
  await Promise.all(Array.from({ length: 20 }, () => ledger.update((state) => ({ ...state, nextVersion: state.nextVersion + 1 }))));
  assert.equal(ledger.state.nextVersion, 21);
});

test("an update that throws changes nothing, and later ones work", async () => {
  const ledger = await Ledger.create(path);
  await assert.rejects(
    ledger.update(() => {
      throw new Error("no");
    }),
    /no/,
  );
  await ledger.update((state) => ({ ...state, undo: "auto-1" }));
  assert.equal((await Ledger.open(path)).state.undo, "auto-1");
});

test("a write that fails leaves memory and disk as they were", async () => {
  const ledger = await Ledger.create(path);
  const before = readFileSync(path, "utf8");
  await assert.rejects(
    ledger.update((state) => ({ ...state, undo: 1n as never })),
    TypeError,
  );
  assert.equal(ledger.state.undo, null);
  assert.equal(readFileSync(path, "utf8"), before);
});

test("a reserved number is pending on disk before it is given out, and never given out twice", async () => {
  const ledger = await Ledger.create(path);
  const first = await ledger.reserveThin();
  const again = await Ledger.open(path);
  assert.ok(again.state.pending.includes(first));
  assert.ok(again.garbage().includes(first), "whoever starts next removes it");
  const numbers = new Set([first]);
  for (let i = 0; i < 30; i++) numbers.add(await ledger.reserveThin());
  for (let i = 0; i < 30; i++) numbers.add(await (await Ledger.open(path)).reserveThin());
  assert.ok(numbers.size >= 31 + 1);
  assert.equal(new Set([...numbers]).has(await ledger.reserveThin()), false);
});

test("after the last number the first comes again, if it is free", async () => {
  const ledger = await Ledger.create(path);
  const last = 2 ** 24 - 1;
  const record = { createTime: "", comment: "", history: [], automatic: false, reason: null, origin: null };
  const checkpoints = [{ ...record, id: "v1", thin: 1 }];
  const uploaded = { thin: 2, origin: null, root: null };
  await ledger.update((state) => ({ ...state, nextThin: last - 1, checkpoints, uploaded, uploading: 3, pending: [last] }));
  const numbers: number[] = [];
  while (numbers.length < 10) numbers.push(await ledger.reserveThin());
  assert.deepEqual(numbers, [last - 1, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  assert.equal((await Ledger.open(path)).state.nextThin, 19);
});

test("numbers in work and numbers in reserve are not garbage", async () => {
  const ledger = await Ledger.create(path);
  const thin = await ledger.reserveThin();
  assert.deepEqual(ledger.garbage(), []);
  ledger.release(thin);
  assert.deepEqual(ledger.garbage(), [thin]);
});

test("a number that found its place and lost it again is garbage", async () => {
  const ledger = await Ledger.create(path);
  const thin = await ledger.reserveThin();
  await ledger.update((state) => ({ ...state, live: { ...state.live, thin }, pending: settle(state, thin) }));
  assert.deepEqual(ledger.garbage(), []);
  await ledger.update((state) => ({ ...state, live: { ...state.live, thin: 0 }, pending: [...state.pending, thin] }));
  assert.deepEqual(ledger.garbage(), [thin]);
});

test("a number that becomes pending while it is in use is kept until it is released", async () => {
  const ledger = await Ledger.create(path);
  await ledger.update((state) => {
    ledger.hold(0);
    return { ...state, pending: [...state.pending, 0] };
  });
  assert.deepEqual(ledger.garbage(), []);
  ledger.release(0);
  assert.deepEqual(ledger.garbage(), [0]);
});

test("a half-written replacement does not matter; a damaged or missing record is refused", async () => {
  await Ledger.create(path);
  writeFileSync(`${path}.new`, '{"format":1,');
  await Ledger.open(path);
  const refused = (error: unknown) => error instanceof HobError && error.code === "volume_unusable";
  for (const content of ["", "{}", '{"format":2}', readFileSync(path, "utf8").slice(0, -1)]) {
    writeFileSync(path, content);
    await assert.rejects(Ledger.open(path), refused);
  }
  rmSync(path);
  await assert.rejects(Ledger.open(path), refused);
});
