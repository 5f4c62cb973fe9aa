import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { acquire, type HeadDocument } from "@hob/storage";
import { openStore } from "@hob/storage/store/open-store.ts";
import { isAllStored } from "../src/readers/history-readers.ts";
import { statesRead } from "../src/readers/history-request.ts";
import { ORGANIZATION } from "../src/tokens/token-format.ts";
import { bodyOf, TestDaemon } from "./support/test-daemon.ts";
import { NOTHING_KNOWN } from "./support/test-runtime.ts";

const HASH = "0123456789abcdef".repeat(4);

test("only requests that read history are a reader's", () => {
  const read = (rest: string, method = "GET") => {
    const states = statesRead(method, rest);
    return states === undefined ? undefined : [...states];
  };
  assert.deepEqual(read("/checkpoints/v1/files?path=/etc"), ["v1"]);
  assert.deepEqual(read("/checkpoints/auto-3/content?path=/a?b&to=v9"), ["auto-3"]);
  assert.deepEqual(read("/checkpoints/%76%31/content?path=/x", "HEAD"), ["v1"]);
  assert.deepEqual(read("/checkpoints/current/files"), ["Current"]);
  assert.deepEqual(read("/checkpoints/diff?from=v1"), ["v1", "Current"]);
  assert.deepEqual(read("/checkpoints/diff?path=/a?b&from=v1&to=v2"), ["v1", "v2"]);
  assert.deepEqual(read("/checkpoints/diff?from=v1&to=v1"), ["v1"]);
  const others = ["", "/", "/checkpoints", "/checkpoints/v1", "/checkpoints/v1/restore", "/checkpoints/v1/files/x", "/exec?cmd=x"];
  for (const rest of [
    ...others,
    "/checkpoints/diff",
    "/checkpoints/diff?from=",
    "/checkpoints//files",
    "/checkpoints/%E0%A4/files",
    `/checkpoints/${"v".repeat(99)}/files`,
  ])
    assert.equal(read(rest), undefined, rest);
  for (const method of ["POST", "DELETE", "OPTIONS"]) assert.equal(read("/checkpoints/v1/files", method), undefined);
});

test("a reader answers only what the sprite would answer too", () => {
  const head = { writeId: "w1", owner: "here", checkpoints: [{ id: "v1", document: HASH }] } as unknown as HeadDocument;
  const stored = (states: string[], local: { hasCopy: boolean; storedAs?: string }, of: Partial<HeadDocument> = {}) =>
    isAllStored(new Set(states), { ...head, ...of }, { ...NOTHING_KNOWN, ...local }, "here");
  const asleep = { hasCopy: true, storedAs: "w1" };
  assert.ok(stored(["v1", "Current"], asleep));
  assert.ok(!stored(["v2"], asleep), "a checkpoint that the store does not have");
  assert.ok(!stored(["v1"], { hasCopy: true }), "the sprite fell asleep before all was in the store");
  assert.ok(!stored(["Current"], asleep, { writeId: "w2" }), "somebody has written since");
  assert.ok(stored(["v1", "Current"], { hasCopy: false }), "the store is all there is");
  assert.ok(!stored(["v1", "Current"], { hasCopy: false }, { owner: "elsewhere" }), "its owner may have gone on");
  assert.ok(stored(["v1"], { hasCopy: false }, { owner: "elsewhere" }));
});

describe("the front door", () => {
  const FILES = "/v1/sprites/one/checkpoints/v1/files";

  /** With a sprite that sleeps, all of it in the store. */
  async function asleep(body: (hob: TestDaemon, id: string, calls: () => string[]) => Promise<void>): Promise<void> {
    await using hob = await TestDaemon.start();
    const { id } = await bodyOf(await hob.create("one"));
    const store = await openStore(`dir:${join(hob.home, "store")}`, {});
    const initial = { volumeBytes: 65_536, root: HASH, checkpoints: [{ id: "v1", document: HASH }] };
    const { head } = await acquire({ store, org: ORGANIZATION, sprite: id, owner: "x", initial, takeOver: true });
    hob.runtime.setStatus(id, "warm");
    hob.runtime.rests.set(id, { ...NOTHING_KNOWN, hasCopy: true, storedAs: head.writeId });
    const before = hob.runtime.calls.length;
    await body(hob, id, () => hob.runtime.calls.slice(before));
  }

  test("has a reader answer for a sprite that sleeps, and does not wake it", () =>
    asleep(async (hob, id, calls) => {
      for (const method of ["GET", "HEAD", "GET"]) assert.equal((await hob.fetch(`${FILES}?path=/x`, { method })).status, 200);
      assert.deepEqual([calls(), hob.runtime.status(id)], [["reader one"], "warm"]);
      const { headers, url } = hob.pilot.seen.at(-1) ?? assert.fail();
      assert.deepEqual([headers.authorization, url], ["Bearer reader", `${FILES}?path=/x`]);
    }));

  test("asks the sprite what the store is not known to have, and whatever is no history", () =>
    asleep(async (hob, id, calls) => {
      await hob.fetch("/v1/sprites/one/checkpoints/v2/files");
      assert.deepEqual(calls(), ["endpoint one"]);
      hob.runtime.setStatus(id, "warm");
      await hob.fetch("/v1/sprites/one/checkpoints/v1/echo");
      hob.runtime.setStatus(id, "warm");
      hob.runtime.rests.delete(id);
      await hob.fetch(FILES);
      await hob.fetch(FILES);
      assert.deepEqual(calls(), ["endpoint one", "endpoint one", "endpoint one", "endpoint one"]);
    }));

  test("wakes the sprite when a reader cannot be had, or does not answer as it should", () =>
    asleep(async (hob, id, calls) => {
      hob.runtime.failReader = true;
      assert.equal((await hob.fetch(FILES)).status, 200);
      assert.deepEqual(calls(), ["reader one", "endpoint one"]);
      hob.runtime.failReader = false;
      hob.runtime.setStatus(id, "warm");
      hob.pilot.acceptedToken = [...hob.runtime.tokens.values()][0];
      assert.equal((await hob.fetch(FILES)).status, 200);
      assert.deepEqual(calls().slice(2, 4), ["reader one", "endpoint one"]);
    }));

  test("lets readers go when the sprite wakes, and at the end of the daemon, before the VMs", () =>
    asleep(async (hob, id, calls) => {
      await hob.fetch(FILES);
      hob.runtime.setStatus(id, "running");
      hob.runtime.setStatus(id, "warm");
      await hob.fetch(FILES);
      await hob.daemon.stop();
      assert.deepEqual(calls(), ["reader one", "close reader one", "reader one", "close reader one", "stopAll"]);
    }));
});
