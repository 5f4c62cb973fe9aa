import assert from "node:assert/strict";
import { describe, mock, test } from "node:test";
import { HobError } from "@hob/protocol";
import fc from "fast-check";
import { type ReaderLease, ReaderPool, type ReaderWish, STATES_MAX } from "../src/readers/reader-pool.ts";
import type { Reader } from "../src/runtime/sprite-runtime.ts";

const IDLE_MS = 60_000;

/** A pool over readers that are nothing but a note of their life. */
class World implements AsyncDisposable {
  /** in order: "start 1 of a", "close 1" */
  readonly seen: string[] = [];
  readonly open = new Map<number, { end: () => void }>();
  places = 0;
  placesMax = Number.POSITIVE_INFINITY;
  /** awaited by starts */
  gate: Promise<unknown> = Promise.resolve();
  fails = false;
  started = 0;
  readonly pool: ReaderPool;

  constructor(max = 2) {
    mock.timers.enable({ apis: ["setTimeout"] });
    this.pool = new ReaderPool({
      max,
      idleMs: IDLE_MS,
      reserve: async () => {
        if (this.places >= this.placesMax) throw new HobError("concurrent_sprite_limit_exceeded", "no room");
        this.places++;
        return { [Symbol.dispose]: () => void this.places-- };
      },
      log: { warn: () => {}, info: () => {} } as never,
    });
  }

  wish(spriteId: string, { root = "r1", states = ["v1"] }: { root?: string; states?: string[] } = {}): ReaderWish {
    return { spriteId, root, states: new Set(states), start: () => this.#start(spriteId) };
  }

  async #start(spriteId: string): Promise<Reader> {
    const number = ++this.started;
    await this.gate;
    if (this.fails) throw new HobError("vm_failed", "as the test asked");
    this.seen.push(`start ${number} of ${spriteId}`);
    const { promise: exited, resolve } = Promise.withResolvers<void>();
    this.open.set(number, { end: resolve });
    const close = async () => {
      if (!this.open.delete(number)) return;
      this.seen.push(`close ${number}`);
      resolve();
    };
    return { endpoint: { host: "127.0.0.1", port: number, token: "" }, exited, close };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    mock.timers.reset();
    await this.pool[Symbol.asyncDispose]();
    assert.deepEqual([this.open.size, this.places, this.pool.size], [0, 0, 0], "nothing is left");
  }
}

const settled = async () => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};
const lent = async (world: World, ...wish: Parameters<World["wish"]>) =>
  (await world.pool.lend(world.wish(...wish))) ?? assert.fail("none");

describe("readers", () => {
  test("one serves all who look at its sprite, stays for a while after the last, and goes", async () => {
    await using world = new World();
    const [first, second] = await Promise.all([lent(world, "a"), lent(world, "a", { states: ["v2", "Current"] })]);
    assert.deepEqual([first.endpoint.port, second.endpoint.port], [1, 1]);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    mock.timers.tick(2 * IDLE_MS);
    assert.equal(world.pool.size, 1, "it is in use");
    second[Symbol.dispose]();
    mock.timers.tick(IDLE_MS - 1);
    const third = await lent(world, "a");
    mock.timers.tick(IDLE_MS);
    third[Symbol.dispose]();
    mock.timers.tick(IDLE_MS);
    await settled();
    assert.deepEqual(world.seen, ["start 1 of a", "close 1"]);
  });

  test("there are no more than may be: an idle one makes room, one in use does not", async () => {
    await using world = new World(2);
    const [a, b] = [await lent(world, "a"), await lent(world, "b")];
    assert.equal(await world.pool.lend(world.wish("c")), undefined);
    b[Symbol.dispose]();
    const both = await Promise.all([world.pool.lend(world.wish("c")), world.pool.lend(world.wish("d"))]);
    assert.deepEqual(
      both.flatMap((lease) => lease?.endpoint.port ?? []),
      [3],
      "one of the two takes the place",
    );
    assert.deepEqual(world.seen.slice(0, 3), ["start 1 of a", "start 2 of b", "close 2"]);
    a[Symbol.dispose]();
  });

  test("of a sprite that woke are lent to nobody else, and go when their users have", async () => {
    await using world = new World();
    const [busy, idle] = [await lent(world, "a"), await lent(world, "b")];
    idle[Symbol.dispose]();
    world.pool.retire("a");
    world.pool.retire("b");
    await settled();
    assert.deepEqual(world.seen.slice(2), ["close 2"]);
    const again = await lent(world, "a");
    assert.equal(again.endpoint.port, 3);
    busy[Symbol.dispose]();
    await settled();
    assert.deepEqual(world.seen.slice(2), ["close 2", "start 3 of a", "close 1"]);
    again[Symbol.dispose]();
  });

  test("show one newest state, and no more states than there are devices for", async () => {
    await using world = new World();
    (await lent(world, "a"))[Symbol.dispose]();
    (await lent(world, "a", { root: "r2" }))[Symbol.dispose]();
    await settled();
    assert.deepEqual(world.seen, ["start 1 of a", "close 1", "start 2 of a"]);
    for (let number = 2; number <= STATES_MAX; number++) (await lent(world, "a", { root: "r2", states: [`v${number}`] }))[Symbol.dispose]();
    assert.equal(world.started, 2);
    (await lent(world, "a", { root: "r2", states: ["v99"] }))[Symbol.dispose]();
    assert.equal(world.started, 3);
  });

  test("a start that fails fails for all who wait, leaves nothing, and the next is tried", async () => {
    await using world = new World();
    world.fails = true;
    const both = await Promise.allSettled([world.pool.lend(world.wish("a")), world.pool.lend(world.wish("a"))]);
    assert.deepEqual(
      both.map(({ status }) => status),
      ["rejected", "rejected"],
    );
    await settled();
    assert.deepEqual([world.started, world.pool.size, world.places], [1, 0, 0]);
    world.placesMax = 0;
    await assert.rejects(world.pool.lend(world.wish("a")), { code: "concurrent_sprite_limit_exceeded" });
    world.fails = false;
    world.placesMax = 1;
    (await lent(world, "a"))[Symbol.dispose]();
  });

  test("one that does not answer, or ends by itself, is not lent again", async () => {
    await using world = new World();
    const first = await lent(world, "a");
    first.discard();
    first[Symbol.dispose]();
    const second = await lent(world, "a");
    world.open.get(second.endpoint.port)?.end();
    await settled();
    second[Symbol.dispose]();
    assert.equal((await lent(world, "a")).endpoint.port, 3);
    assert.deepEqual([...world.open.keys()], [3]);
  });

  test("of a sprite that is destroyed go at once, also when they are just being started", async () => {
    await using world = new World();
    await lent(world, "a");
    const { promise, resolve } = Promise.withResolvers<void>();
    world.gate = promise;
    const starting = world.pool.lend(world.wish("b"));
    await settled();
    const dropped = Promise.all([world.pool.drop("a"), world.pool.drop("b")]);
    resolve();
    await dropped;
    await starting;
    assert.deepEqual([world.open.size, world.pool.size], [0, 0]);
  });

  test("after the end none is started", async () => {
    const world = new World();
    await lent(world, "a");
    await world[Symbol.asyncDispose]();
    await assert.rejects(world.pool.lend(world.wish("a")), { code: "shutting_down" });
  });

  test("whatever happens, there are never more than may be, and in the end none", async () => {
    const sprite = fc.constantFrom("a", "b", "c");
    const step: fc.Arbitrary<Step> = fc.oneof(
      fc.tuple(sprite, fc.constantFrom("r1", "r2")).map(
        ([of, root]): Step =>
          (world, leases) =>
            lend(world, leases, of, root),
      ),
      fc.nat(9).map(
        (at): Step =>
          async (_world, leases) =>
            leases[at]?.[Symbol.dispose](),
      ),
      fc.nat(9).map(
        (at): Step =>
          async (_world, leases) =>
            leases[at]?.discard(),
      ),
      fc.nat(9).map(
        (number): Step =>
          async (world) =>
            world.open.get(number)?.end(),
      ),
      sprite.map(
        (of): Step =>
          async (world) =>
            world.pool.retire(of),
      ),
      sprite.map(
        (of): Step =>
          async (world) =>
            void world.pool.drop(of),
      ),
      fc.boolean().map(
        (fails): Step =>
          async (world) => {
            world.fails = fails;
          },
      ),
      fc.nat(2 * IDLE_MS).map(
        (ms): Step =>
          async () =>
            mock.timers.tick(ms),
      ),
    );
    const run = async (steps: readonly Step[]) => {
      await using world = new World(2);
      const leases: ReaderLease[] = [];
      for (const one of steps) {
        await one(world, leases);
        assert.ok(world.pool.size <= 2 && world.open.size <= 2 && world.places <= 2);
      }
    };
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 40 }), run), { numRuns: 300 });
  });
});

type Step = (world: World, leases: ReaderLease[]) => Promise<unknown>;

async function lend(world: World, leases: ReaderLease[], sprite: string, root: string): Promise<void> {
  const lease = await world.pool.lend(world.wish(sprite, { root })).catch(() => undefined);
  if (lease !== undefined) leases.push(lease);
}
