import assert from "node:assert/strict";
import { readFileSync, renameSync, symlinkSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { acquire, type HeadDocument } from "@hob/storage";
import { openStore } from "@hob/storage/store/open-store.ts";
import { pino } from "pino";
import { CatchUp, type CatchUpParts } from "../src/activity/catch-up.ts";
import { SpriteUses } from "../src/activity/use.ts";
import { createPilotRequester } from "../src/front-door/pilot-locator.ts";
import { ORGANIZATION } from "../src/tokens/token-format.ts";
import { bodyOf, TestDaemon, until } from "./support/test-daemon.ts";
import { NOTHING_KNOWN } from "./support/test-runtime.ts";

const LAG = { lagMs: 5_000, checkpoints: 1, error: "no way there" };
/** Longer than any pause before the first tries. */
const SOON_MS = 15_000;

interface World extends AsyncDisposable {
  hob: TestDaemon;
  /** lets time pass */
  pass: (ms: number) => void;
  /** Makes a sprite of this host's in the store, of which that lacks something whenever it sleeps. */
  add: (name: string) => Promise<string>;
  sleep: (name: string) => Promise<void>;
  /** calls of the runtime for sprites of these names that wake or save them, in order */
  moves: () => string[];
}

async function world(config: { maxRunning?: number } = {}): Promise<World> {
  let offset = 0;
  const hob = await TestDaemon.start(config, {}, { now: () => Date.now() + offset });
  const store = await openStore(`dir:${join(hob.home, "store")}`, {});
  const owner = readFileSync(hob.daemon.home.hostId, "utf8").trim();
  return {
    hob,
    pass: (ms) => {
      offset += ms;
    },
    add: async (name) => {
      const { id } = await bodyOf(await hob.create(name));
      const { head } = await acquire({ store, org: ORGANIZATION, sprite: id, owner, initial: { volumeBytes: 65_536 } });
      hob.runtime.rests.set(id, { ...NOTHING_KNOWN, hasCopy: true, epoch: head.epoch });
      hob.runtime.lags.set(name, LAG);
      return id;
    },
    sleep: async (name) => {
      assert.equal((await hob.fetch(`/v1/sprites/${name}/sleep`, { method: "POST", json: {} })).status, 200);
    },
    moves: () => hob.runtime.calls.filter((call) => /^(endpoint|sleep) /.test(call)),
    [Symbol.asyncDispose]: () => hob[Symbol.asyncDispose](),
  };
}

const syncs = (hob: TestDaemon) => hob.pilot.seen.filter(({ url }) => url.endsWith("/sync")).map(({ url }) => url.split("/")[3]);

describe("a sprite that sleeps while the store lacks something of it", () => {
  test("is woken, brings it there, and sleeps again, also one that never sleeps by itself", async () => {
    await using it = await world();
    const { hob } = it;
    const id = await it.add("one");
    await it.sleep("one");
    const { behind } = await bodyOf(await hob.fetch("/v1/sprites/one/activity"));
    assert.deepEqual([behind.checkpoints, behind.error], [1, "no way there"]);
    hob.pilot.onSync = () => {
      hob.runtime.lags.delete("one");
    };
    it.pass(SOON_MS);
    await until("it has slept again", () => it.moves().length === 3 && hob.runtime.status(id) === "warm");
    assert.deepEqual([it.moves(), syncs(hob)], [["sleep one", "endpoint one", "sleep one"], ["one"]]);
    const after = await bodyOf(await hob.fetch("/v1/sprites/one/activity"));
    assert.deepEqual([after.behind, after.last_wake.reason], [null, "what the object store lacks"]);
    it.pass(24 * 3_600_000);
    await it.add("two");
    await it.sleep("two");
    it.pass(SOON_MS);
    await until("another is tended to", () => syncs(hob).length === 2);
    assert.deepEqual(syncs(hob), ["one", "two"], "nothing is missing of the first any more");
  });

  test("is left alone while the store does not answer", async () => {
    await using it = await world();
    const { hob } = it;
    await it.add("one");
    await it.sleep("one");
    const folder = join(hob.home, "store");
    renameSync(folder, `${folder}.away`);
    symlinkSync("store", folder);
    it.pass(SOON_MS);
    const silences = () => readFileSync(hob.daemon.home.log, "utf8").match(/the object store does not answer/g)?.length ?? 0;
    await until("the store was asked", () => silences() === 1);
    it.pass(SOON_MS);
    await until("it was asked again", () => silences() === 2);
    assert.deepEqual(it.moves(), ["sleep one"]);
    unlinkSync(folder);
    renameSync(`${folder}.away`, folder);
    it.pass(SOON_MS);
    await until("it is woken", () => syncs(hob).length === 1);
  });

  test("is woken later each time that it was in vain", async () => {
    await using it = await world();
    const { hob } = it;
    const id = await it.add("one");
    await it.sleep("one");
    it.pass(SOON_MS);
    await until("it was woken in vain", () => syncs(hob).length === 1);
    await until("it sleeps", () => hob.runtime.status(id) === "warm");
    await it.add("two");
    await it.sleep("two");
    // The other one is due then, for the first time.
    it.pass(11_000);
    await until("the daemon has looked", () => syncs(hob).length === 2);
    assert.deepEqual(syncs(hob), ["one", "two"]);
    it.pass(20_000);
    await until("it is woken again", () => syncs(hob).includes("one", 1));
  });

  test("is not taken from another host that has it by now", async () => {
    await using it = await world();
    const { hob } = it;
    const id = await it.add("one");
    const rest = await hob.runtime.rest(id);
    hob.runtime.rests.set(id, { ...rest, epoch: (rest.epoch ?? 0) + 1 });
    await it.sleep("one");
    await it.add("two");
    await it.sleep("two");
    it.pass(SOON_MS);
    await until("the other one is woken", () => syncs(hob).length === 1);
    assert.deepEqual(syncs(hob), ["two"]);
  });

  test("takes no place that somebody needs, and gives its own away", async () => {
    await using it = await world({ maxRunning: 1 });
    const { hob } = it;
    const one = await it.add("one");
    const busy = Promise.withResolvers<void>();
    hob.pilot.onSync = () => busy.promise;
    await it.sleep("one");
    assert.equal((await hob.create("two", { idle_timeout_seconds: 3_600 })).status, 201);
    it.pass(SOON_MS);
    const found = () => readFileSync(hob.daemon.home.log, "utf8").includes("no place is free");
    await until("it has found no place", found);
    assert.equal(hob.runtime.status(hob.runtime.made.get("two")?.id ?? ""), "running");
    assert.equal((await hob.fetch("/v1/sprites/two/sleep", { method: "POST", json: {} })).status, 200);
    it.pass(60_000);
    await until("it is at work", () => syncs(hob).length === 1);
    assert.equal((await hob.create("three")).status, 201, "it sleeps for a new one");
    assert.equal(hob.runtime.status(one), "warm");
    busy.resolve();
  });
});

describe("giving way", () => {
  /** One sprite that is due, and the points at which its turn waits. */
  async function due(t: { after: (end: () => Promise<void>) => void }) {
    const [found, head, place] = [Promise.withResolvers<void>(), Promise.withResolvers<HeadDocument>(), Promise.withResolvers<void>()];
    const at = { found: false, head: false, place: false, wakes: 0, visits: 0 };
    const reach = async <T>(point: "found" | "head" | "place", until: Promise<T>): Promise<T> => {
      at[point] = true;
      return until;
    };
    let now = 0;
    const record = { id: "one", name: "one", state: "ready" };
    const context = {
      sprites: { findById: () => reach("found", found.promise).then(() => record) },
      runtime: { status: () => "warm", rest: async () => ({ epoch: 1, behind: { since: 0, checkpoints: 1, error: null } }) },
      gate: { reserveIfFree: () => reach("place", place.promise).then(() => ({ [Symbol.dispose]: () => {} })) },
      uses: new SpriteUses(Date.now),
      log: pino({ level: "silent" }),
      now: () => now,
    } as unknown as CatchUpParts["context"];
    const locate = () => {
      at.wakes++;
      return Promise.reject(new Error("it was woken"));
    };
    const catchUp = new CatchUp({
      context,
      storage: { head: () => reach("head", head.promise), owns: () => true },
      pilot: createPilotRequester(locate, context.uses),
      sleeper: { noteVisit: () => void at.visits++ },
    });
    t.after(() => {
      for (const point of [found, place]) point.resolve();
      head.resolve({} as HeadDocument);
      return catchUp[Symbol.asyncDispose]();
    });
    await catchUp.noteStatus("one", "warm");
    now += SOON_MS;
    catchUp.look();
    return { catchUp, at, found, head, place };
  }

  test("before the store was asked: nobody waits for its answer", { timeout: 30_000 }, async (t) => {
    const { catchUp, at, found } = await due(t);
    const gone = catchUp.giveWay();
    found.resolve();
    await gone;
    assert.equal(at.wakes, 0);
  });

  test("before the sprite has a place: it is not woken", async (t) => {
    const { catchUp, at, found, head, place } = await due(t);
    found.resolve();
    head.resolve({} as HeadDocument);
    await until("it wants a place", () => at.place);
    const gone = catchUp.giveWay();
    place.resolve();
    await gone;
    assert.deepEqual([at.wakes, at.visits], [0, 0]);
  });
});
