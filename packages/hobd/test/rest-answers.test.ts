import assert from "node:assert/strict";
import { readFileSync, renameSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type Checkpoint, SPRITE_VERSION, type StorageStatus } from "@hob/protocol";
import { acquire } from "@hob/storage";
import { openStore } from "@hob/storage/store/open-store.ts";
import { parseRestRequest } from "../src/readers/rest-request.ts";
import type { Rest } from "../src/runtime/sprite-runtime.ts";
import { ORGANIZATION } from "../src/tokens/token-format.ts";
import { bodyOf, TestDaemon } from "./support/test-daemon.ts";
import { NOTHING_KNOWN } from "./support/test-runtime.ts";

const HASH = "0123456789abcdef".repeat(4);
const checkpointOf = (id: string, more: Partial<Checkpoint> = {}): Checkpoint => ({
  ...{ id, create_time: "2026-01-02T03:04:05.000Z", comment: `of ${id}`, source_id: "", health: "", history: [], is_auto: false },
  ...more,
});
const V2 = checkpointOf("v2", { history: ["v1"], source_id: "v1", durable: false });
const AUTO = checkpointOf("auto-1", { is_auto: true, reason: "sleep", durable: true });
const V1 = checkpointOf("v1", { durable: true });
const STORAGE: StorageStatus = {
  ...{ enabled: true, durable_at: "2026-01-02T03:04:05.000Z", durable_lag_seconds: 0, uploading: true, pending_checkpoints: [] },
  ...{ fetched_bytes: 5, fetched_requests: 1, error: null },
};

test("only what a sprite said before it fell asleep is answered for it", () => {
  const parsed = (rest: string, method = "GET") => parseRestRequest(method, rest);
  assert.deepEqual(parsed("/checkpoints"), { kind: "list", filter: { includeAuto: false, history: undefined } });
  const filter = { includeAuto: true, history: "v1" };
  assert.deepEqual(parsed("/checkpoints?includeAuto=1&history=v1&history=v2&more=x", "HEAD"), { kind: "list", filter });
  assert.deepEqual(parsed("/checkpoints/%76%31"), { kind: "checkpoint", id: "v1" });
  assert.deepEqual([parsed("/storage"), parsed("/sync", "POST")], [{ kind: "storage" }, { kind: "sync" }]);
  assert.throws(() => parsed("/checkpoints?includeAuto=perhaps"), { code: "invalid_request" });
  const others = ["/", "/checkpoints/", "/checkpoints/diff?from=v1", "/checkpoints/v1/files", "/storage/x", "/sync", "/exec?cmd=x"];
  for (const rest of others) assert.equal(parsed(rest), undefined, rest);
  for (const [method, rest] of [
    ["DELETE", "/checkpoints/v1"],
    ["POST", "/checkpoints"],
    ["POST", "/checkpoints/v1/restore"],
    ["POST", "/sync/x"],
    ["PUT", "/sync"],
  ] as const)
    assert.equal(parsed(rest, method), undefined, `${method} ${rest}`);
});

describe("the front door", () => {
  interface Asleep {
    hob: TestDaemon;
    id: string;
    /** what the runtime was told since the sprite sleeps */
    calls: () => string[];
    know: (more: Partial<Rest>) => void;
    takeOver: () => Promise<unknown>;
  }

  /** With a sprite of this host's that sleeps. */
  async function asleep(body: (sprite: Asleep) => Promise<void>): Promise<void> {
    await using hob = await TestDaemon.start();
    const { id } = await bodyOf(await hob.create("one"));
    const store = await openStore(`dir:${join(hob.home, "store")}`, {});
    const place = { store, org: ORGANIZATION, sprite: id };
    const initial = { volumeBytes: 65_536, root: HASH, checkpoints: [{ id: "v1", document: HASH }] };
    const { head } = await acquire({ ...place, owner: hostOf(hob), initial });
    const said = { at: Date.now(), checkpoints: [checkpointOf("Current", { history: ["v2"] }), V2, AUTO, V1], storage: STORAGE };
    const rest: Rest = { ...NOTHING_KNOWN, hasCopy: true, epoch: head.epoch, storedAs: head.writeId, said };
    const know = (more: Partial<Rest>) => {
      hob.runtime.setStatus(id, "warm");
      hob.runtime.rests.set(id, { ...rest, ...more });
    };
    know({});
    const before = hob.runtime.calls.length;
    const takeOver = () => acquire({ ...place, owner: "another", takeOver: true });
    await body({ hob, id, know, takeOver, calls: () => hob.runtime.calls.slice(before) });
  }
  const hostOf = (hob: TestDaemon) => readFileSync(hob.daemon.home.hostId, "utf8").trim();
  const CHECKPOINTS = "/v1/sprites/one/checkpoints";
  const idsOf = async (hob: TestDaemon, query = "") =>
    ((await bodyOf(await hob.fetch(CHECKPOINTS + query))) as Checkpoint[]).map(({ id }) => id);

  test("lists the checkpoints of a sprite that sleeps as that would, and does not wake it", () =>
    asleep(async ({ hob, id, calls }) => {
      const answer = await hob.fetch(`${CHECKPOINTS}?includeAuto=true`);
      const [current, ...others] = (await bodyOf(answer)) as Checkpoint[];
      assert.deepEqual([answer.status, answer.headers.get("sprite-version"), others], [200, SPRITE_VERSION, [V2, AUTO, V1]]);
      assert.ok(Date.parse(current?.create_time ?? "") > Date.parse(V1.create_time), "the live state is of now");
      assert.deepEqual([current?.id, current?.history], ["Current", ["v2"]]);
      assert.deepEqual(await idsOf(hob), ["Current", "v2", "v1"]);
      assert.deepEqual(await idsOf(hob, "?history=v1&includeAuto=1"), ["v2", "v1"]);
      assert.deepEqual(await bodyOf(await hob.fetch(`${CHECKPOINTS}/v2`)), V2);
      assert.equal((await bodyOf(await hob.fetch(`${CHECKPOINTS}/Current`))).id, "Current");
      const head = await hob.fetch(CHECKPOINTS, { method: "HEAD" });
      assert.deepEqual([head.status, await head.text()], [200, ""]);
      const missing = await hob.fetch(`${CHECKPOINTS}/v9`);
      assert.deepEqual([missing.status, (await bodyOf(missing)).error], [404, "not_found"]);
      assert.equal((await hob.fetch(`${CHECKPOINTS}?includeAuto=perhaps`)).status, 400);
      assert.equal((await hob.fetch(CHECKPOINTS, { headers: { Authorization: "Bearer no" } })).status, 401);
      assert.deepEqual([calls(), hob.runtime.status(id)], [[], "warm"]);
    }));

  test("asks the sprite when it is not known what that has, when it may be another host's, and when it runs", () =>
    asleep(async ({ hob, id, calls, know, takeOver }) => {
      const asked = ["endpoint one"];
      for (const unknown of [{ said: undefined }, { hasCopy: false }, { epoch: undefined }]) {
        know(unknown);
        await hob.fetch(CHECKPOINTS);
        assert.deepEqual(calls().splice(-1), asked, JSON.stringify(unknown));
      }
      know({});
      hob.runtime.setStatus(id, "running");
      await hob.fetch(CHECKPOINTS);
      know({});
      await hob.fetch(`${CHECKPOINTS}/v1`, { method: "DELETE" });
      know({});
      await takeOver();
      await hob.fetch(CHECKPOINTS);
      assert.equal(calls().length, 6);
    }));

  test("says that a checkpoint has arrived in the store since; without the store, what is known here", () =>
    asleep(async ({ hob, calls, know }) => {
      const late = { ...V1, durable: false };
      know({ said: { at: 0, checkpoints: [V2, late], storage: STORAGE } });
      assert.deepEqual(await bodyOf(await hob.fetch(CHECKPOINTS)), [V2, V1]);
      const folder = join(hob.home, "store");
      renameSync(folder, `${folder}.away`);
      symlinkSync("store", folder);
      assert.deepEqual(await bodyOf(await hob.fetch(CHECKPOINTS)), [V2, late]);
      assert.deepEqual(calls(), []);
    }));

  test("says how far the store is behind; a sync is answered at once when it has everything, and else by the sprite", () =>
    asleep(async ({ hob, calls, know }) => {
      const sync = () => hob.fetch("/v1/sprites/one/sync", { method: "POST" });
      assert.deepEqual(await bodyOf(await hob.fetch("/v1/sprites/one/storage")), { ...STORAGE, uploading: false });
      assert.deepEqual([await bodyOf(await sync()), calls()], [{ ...STORAGE, uploading: false }, []]);
      const behind = { ...STORAGE, durable_lag_seconds: 2, pending_checkpoints: ["v2"] };
      know({ storedAs: undefined, said: { at: Date.now() - 60_000, checkpoints: [V2], storage: behind } });
      const told = await bodyOf(await hob.fetch("/v1/sprites/one/storage"));
      assert.ok(told.durable_lag_seconds >= 62 && told.durable_lag_seconds < 120, "it grows while the sprite sleeps");
      assert.deepEqual([told.pending_checkpoints, calls()], [["v2"], []]);
      assert.equal((await sync()).status, 200);
      assert.deepEqual(calls(), ["endpoint one"]);
    }));
});
