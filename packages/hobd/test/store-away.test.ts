import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { HobError, NO_POLICIES } from "@hob/protocol";
import {
  acquire,
  type ObjectStore,
  OrgKeys,
  type PutOptions,
  readHead,
  readSprite,
  requireConditionalWrites,
  writeSprite,
} from "@hob/storage";
import { openStore } from "@hob/storage/store/open-store.ts";
import { pino } from "pino";
import { MemoryStore } from "../../storage/test/support/memory-store.ts";
import { type Daemon, type DaemonConfig, startDaemon } from "../src/index.ts";
import { WatchedStore } from "../src/object-store/watched-store.ts";
import { bodyOf, temporaryHome, testConfig, until } from "./support/test-daemon.ts";
import { TestRuntime } from "./support/test-runtime.ts";

const LIMIT = { timeout: 120_000 };
const AGAIN_MS = { first: 5, last: 10 };
/** What fails by itself does so before. */
const TIMES = { startMs: 20_000, answerMs: 20_000, againMs: AGAIN_MS };
/** For a server that refuses connections: that is tried for longer than a test may take. */
const SHORT_TIMES = { startMs: 500, answerMs: 500, againMs: AGAIN_MS };
const AWAY = new HobError("store_unavailable", "as the test asked");
const WAIT_MS = 30_000;
const is = (code: string) => (error: unknown) => error instanceof HobError && error.code === code;

/** A store that can be told what is wrong with it. */
class FaultyStore extends MemoryStore {
  fault: HobError | undefined;
  ignoresConditions = false;
  /** calls never end, unless they are aborted */
  isMute = false;

  override async put(key: string, data: Uint8Array, options: PutOptions = {}) {
    await this.#fail(options.signal);
    const { condition, ...others } = options;
    return super.put(key, data, condition === undefined || this.ignoresConditions ? others : options);
  }

  override async list(...args: Parameters<ObjectStore["list"]>) {
    await this.#fail(args[1]?.signal);
    return super.list(...args);
  }

  override async get(...args: Parameters<ObjectStore["get"]>) {
    await this.#fail(args[1]?.signal);
    return super.get(...args);
  }

  async #fail(signal?: AbortSignal): Promise<void> {
    if (this.fault !== undefined) throw this.fault;
    if (!this.isMute) return;
    await new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason), { once: true }));
  }
}

function watched(times: Partial<typeof TIMES> = {}) {
  const inner = new FaultyStore();
  const store = new WatchedStore(inner, pino({ level: "silent" }), { ...TIMES, ...times });
  return { inner, store, [Symbol.dispose]: () => store[Symbol.dispose]() };
}

describe("a store that is watched", LIMIT, () => {
  test("answers nothing before it was found to have conditional writes, and goes on by itself when it answers", async () => {
    using parts = watched();
    const { inner, store } = parts;
    inner.fault = AWAY;
    await store.start(true);
    assert.equal(store.health, "unavailable");
    await assert.rejects(store.put("a", Buffer.from("x")), (error: HobError) => {
      assert.equal(error.code, "store_unavailable");
      assert.match(`${error.message} ${error.hint}`, /as the test asked.*sprites that run go on/s);
      assert.equal(error.details.retry_after_seconds, 1);
      return true;
    });
    await assert.rejects(requireConditionalWrites(store), is("store_unavailable"));
    inner.fault = undefined;
    await store.fit;
    assert.equal(store.health, "ok");
    await requireConditionalWrites(store);
    await store.put("a", Buffer.from("x"));
    assert.deepEqual([...inner.objects.keys()], ["a"], "the trial is removed, and made once");
  });

  test("that was never used must answer at once, and one that refuses or lacks conditional writes is refused at any start", async () => {
    const faults: [code: string, wasUsed: boolean, break_: (inner: FaultyStore) => void][] = [
      ["store_unavailable", false, (inner) => (inner.fault = AWAY)],
      ["store_failed", false, (inner) => (inner.fault = new HobError("store_failed", "as the test asked"))],
      ["store_failed", true, (inner) => (inner.fault = new HobError("store_failed", "as the test asked"))],
      ["store_unsupported", true, (inner) => (inner.ignoresConditions = true)],
    ];
    for (const [code, wasUsed, break_] of faults) {
      using parts = watched();
      break_(parts.inner);
      await assert.rejects(parts.store.start(wasUsed), is(code), `${code} ${wasUsed}`);
    }
  });

  test("that turns out to lack conditional writes is refused clearly from then on, and nothing is written there", async () => {
    using parts = watched();
    const { inner, store } = parts;
    inner.fault = AWAY;
    await store.start(true);
    inner.ignoresConditions = true;
    inner.fault = undefined;
    await until("it is found out", () => store.health === "refused");
    await assert.rejects(store.put("a", Buffer.from("x")), is("store_unsupported"));
    await assert.rejects(requireConditionalWrites(store), is("store_unsupported"));
    inner.ignoresConditions = false;
    await store.fit;
    assert.equal(store.health, "ok");
  });

  test("that does not say anything holds up a start for a bounded time only", async () => {
    using parts = watched({ startMs: 20, answerMs: 20 });
    const { inner, store } = parts;
    inner.isMute = true;
    await store.start(true);
    assert.match(store.problem?.message ?? "", /did not answer within 0.02 s/);
    await assert.rejects(parts.store.start(false), is("store_unavailable"));
    inner.isMute = false;
    await store.fit;
  });

  test("that goes away later is asked until it is back; an object that is missing or another says nothing of it", async () => {
    using parts = watched();
    const { inner, store } = parts;
    await store.start(false);
    await assert.rejects(store.put("a", Buffer.from("x"), { condition: { ifMatch: "no" } }), is("precondition_failed"));
    assert.equal(await store.get("none"), undefined);
    assert.equal(store.health, "ok");
    inner.fault = AWAY;
    await assert.rejects(store.get("a"), is("store_unavailable"));
    assert.equal(store.health, "unavailable");
    inner.fault = undefined;
    await until("it is back without being used", () => store.health === "ok");
  });
});

describe("a daemon whose store is away", LIMIT, () => {
  class Home implements AsyncDisposable {
    readonly path: string;
    readonly #cleanUp: AsyncDisposableStack;
    runtime: TestRuntime | undefined;

    constructor(path: string, cleanUp: AsyncDisposableStack) {
      this.path = path;
      this.#cleanUp = cleanUp;
    }

    static async make(): Promise<Home> {
      const cleanUp = new AsyncDisposableStack();
      return new Home(cleanUp.use(await temporaryHome()).path, cleanUp);
    }

    async start(config: Partial<DaemonConfig> = {}, storeTimes = TIMES): Promise<Daemon> {
      const daemon = await startDaemon(testConfig(this.path, config), {
        createRuntime: (context) => (this.runtime = new TestRuntime(context, { pilotPort: () => 1 })),
        environment: { AWS_ACCESS_KEY_ID: "key", AWS_SECRET_ACCESS_KEY: "secret", HOME: this.path },
        storeTimes,
      });
      this.#cleanUp.defer(() => daemon.stop());
      return daemon;
    }

    [Symbol.asyncDispose](): Promise<void> {
      return this.#cleanUp.disposeAsync();
    }
  }

  const api = (daemon: Daemon, method: string, path: string, json?: object) =>
    fetch(daemon.url + path, {
      method,
      headers: { Authorization: `Bearer ${daemon.token}` },
      ...(json === undefined ? {} : { body: JSON.stringify(json) }),
    });
  const health = async (daemon: Daemon) => (await bodyOf(await fetch(`${daemon.url}/healthz`))).store;

  test("starts, serves what it can, and goes on when the store is there again", async () => {
    await using home = await Home.make();
    const [store, kept] = [join(home.path, "store"), join(home.path, "kept")];
    const first = await home.start();
    assert.equal((await api(first, "POST", "/v1/sprites", { name: "here" })).status, 201);
    assert.equal((await api(first, "POST", "/v1/sprites", { name: "doomed" })).status, 201);
    const { id } = await bodyOf(await api(first, "GET", "/v1/sprites/doomed"));
    await first.stop();
    await rename(store, kept);

    const daemon = await home.start();
    assert.equal(await health(daemon), "unavailable");
    assert.ok(!existsSync(store), "a store whose disk is not mounted is not made anew");
    assert.match(home.runtime?.calls[0] ?? "", /^recover .*, keeping others$/);
    assert.equal((await api(daemon, "GET", "/v1/sprites/here")).status, 200);
    const refused = await api(daemon, "POST", "/v1/storage/fsck");
    const { error, hint } = await bodyOf(refused);
    assert.deepEqual([refused.status, error, refused.headers.get("retry-after")], [503, "store_unavailable", "1"]);
    assert.match(hint, /asked again.*mounted/);
    assert.equal((await api(daemon, "DELETE", "/v1/sprites/doomed")).status, 204);
    assert.equal((await api(daemon, "PUT", "/v1/sprites/here", { labels: ["later"] })).status, 200);
    assert.match(daemon.storeProblem?.message ?? "", /is not there/);

    await describeAnother(kept);
    assert.ok((await descriptionsIn(kept)).includes(id));
    await rename(kept, store);
    await until("the daemon has found it", async () => (await health(daemon)) === "ok", WAIT_MS);
    await until("what other hosts made is found", async () => (await api(daemon, "GET", "/v1/sprites/another")).status === 200, WAIT_MS);
    await until("what was destroyed is gone from the store", async () => !(await descriptionsIn(store)).includes(id), WAIT_MS);
    const here = await bodyOf(await api(daemon, "GET", "/v1/sprites/here"));
    const described = async () => (await readSprite(await openStore(`dir:${store}`, {}, { exists: true }), "hob", here.id))?.labels;
    await until("what was changed is in the store", async () => (await described())?.includes("later") === true, WAIT_MS);
    assert.equal(daemon.storeProblem, undefined);
    assert.equal((await api(daemon, "POST", "/v1/storage/fsck")).status, 200);
  });

  test("does not start with one that it has never used", async () => {
    await using home = await Home.make();
    const store = "s3://bucket?endpoint=http://127.0.0.1:1";
    await (await home.start()).stop();
    await assert.rejects(home.start({ store }, SHORT_TIMES), is("store_unavailable"));
    await (await home.start()).stop();
  });

  test("does not start when the store refuses it, also one that it has used", async () => {
    await using home = await Home.make();
    const server = createServer((request, response) => {
      request.resume().once("end", () => response.writeHead(403).end("<Error><Code>InvalidAccessKeyId</Code></Error>"));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const store = `s3://bucket?endpoint=http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await (await home.start()).stop();
    await rm(join(home.path, "store.json"));
    const { noteUsedStore, homeLayout } = await import("../src/daemon/home.ts");
    noteUsedStore(homeLayout(home.path), store);
    await assert.rejects(
      home.start({ store }),
      (error: HobError) => error.code === "store_failed" && error.hint?.includes("access key") === true,
    );
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    const down = await home.start({ store }, SHORT_TIMES);
    assert.equal(await health(down), "unavailable");
  });
});

const ID = "sprite-3f1c0c1e-0000-4000-8000-00000000000b";

/** As another host would leave it. */
async function describeAnother(folder: string): Promise<void> {
  const store = await openStore(`dir:${folder}`, {});
  await acquire({ store, org: "hob", sprite: ID, owner: "another-host", create: true, initial: { volumeBytes: 10 * 1024 ** 3 } });
  await writeSprite(store, {
    ...{ format: "hob-sprite", version: 1, id: ID, name: "another", organization: "hob", machineId: "0".repeat(32), labels: [] },
    ...{ createdAt: new Date().toISOString(), environment: {}, machine: { cpus: 1, ramMb: 512, storageGb: 10 } },
    settings: { url_settings: { auth: "sprite" }, idle_timeout_seconds: null, policies: NO_POLICIES },
  });
  assert.ok(await readHead(store, new OrgKeys("hob").sprite(ID).head));
}

async function descriptionsIn(folder: string): Promise<string[]> {
  const store = await openStore(`dir:${folder}`, {}, { exists: true });
  const { objects } = await store.list("orgs/hob/sprites/");
  return objects.filter(({ key }) => key.endsWith("/sprite.json")).map(({ key }) => key.split("/").at(-2) ?? "");
}
