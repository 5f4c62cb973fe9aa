import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { HobError, type SpritePolicies } from "@hob/protocol";
import { acquire, exportSprite, OrgKeys, type SpriteDocument, writeSprite } from "@hob/storage";
import { DirectoryStore } from "@hob/storage/store/directory-store.ts";
import { MemoryStore } from "../../storage/test/support/memory-store.ts";
import { bodyOf, TestDaemon } from "./support/test-daemon.ts";
import { NOTHING_KNOWN } from "./support/test-runtime.ts";

const ORG = "hob";
const NETWORK = { rules: [{ domain: "github.com", action: "allow" }] };
const PRIVILEGES = { profile: "minimal" };
const RESOURCES = { cpu: { limit: 1 } };
const POLICIES = { network: NETWORK, privileges: PRIVILEGES, resources: RESOURCES };

const KINDS = ["network", "privileges", "resources"] as const;
const policy = async (hob: TestDaemon, name: string, kind: string) => bodyOf(await hob.fetch(`/v1/sprites/${name}/policy/${kind}`));
const policies = async (hob: TestDaemon, name: string) =>
  Object.fromEntries(await Promise.all(KINDS.map(async (kind) => [kind, await policy(hob, name, kind)])));
const set = async (hob: TestDaemon, name: string, kind: string, json: unknown) =>
  assert.equal((await hob.fetch(`/v1/sprites/${name}/policy/${kind}`, { method: "POST", json })).status, 204);
/** What the VM was made with, before anything in it ran. */
const begunWith = (hob: TestDaemon, name: string): SpritePolicies | undefined => hob.runtime.made.get(name)?.policies;
const withoutRevision = ({ revision: _, ...rest }: SpritePolicies) => rest;

describe("a fork", () => {
  async function withSource(body: (hob: TestDaemon) => Promise<void>): Promise<void> {
    await using hob = await TestDaemon.start();
    const { id } = await bodyOf(await hob.create("web"));
    const store = await DirectoryStore.open(join(hob.home, "store"));
    // A pilot makes it when it first brings the sprite into the store.
    const owned = await acquire({ store, org: ORG, sprite: id, owner: "test", create: true, initial: { volumeBytes: 10 * 1024 ** 3 } });
    const checkpoint = { id: "v1", comment: "", createdAt: new Date().toISOString(), root: null, storedBlocks: 0, automatic: false };
    await owned.addCheckpoint(checkpoint);
    for (const kind of KINDS) await set(hob, "web", kind, POLICIES[kind]);
    await body(hob);
  }
  const fork = (hob: TestDaemon, json: object) => hob.fetch("/v1/sprites/web/fork", { method: "POST", json });

  test("begins with the policies that its source has now, also one of a checkpoint from before", () =>
    withSource(async (hob) => {
      for (const json of [{ name: "now" }, { name: "then", checkpoint: "v1" }]) {
        const made = await fork(hob, json);
        assert.equal(made.status, 201, await made.text());
        assert.deepEqual(withoutRevision(begunWith(hob, json.name) as SpritePolicies), POLICIES, "before anything in it runs");
        assert.deepEqual(await policies(hob, json.name), POLICIES);
      }
    }));

  test("has those that were set while its source was brought into the store", () =>
    withSource(async (hob) => {
      hob.pilot.onSync = () => set(hob, "web", "network", { rules: [] });
      assert.equal((await fork(hob, { name: "copy" })).status, 201);
      assert.deepEqual(begunWith(hob, "copy")?.network, { rules: [] });
    }));

  test("of a sprite that cannot be brought into the store says what the sprite says of it, and leaves nothing", () =>
    withSource(async (hob) => {
      const refusals = [
        [
          new HobError("no_space", "the store is full", { hint: "make room" }).toBody(),
          "no_space",
          /bring sprite web .*: the store is full/,
        ],
        [{ error: "nonsense", message: "x" }, "store_unavailable", /answered 507/],
        [{ error: "no_space", message: "x".repeat(20_000) }, "store_unavailable", /answered 507/],
        ["none", "store_unavailable", /answered 507/],
      ] as const;
      for (const [body, code, text] of refusals) {
        hob.pilot.syncRefusal = typeof body === "string" ? body : JSON.stringify(body);
        const { error, message } = await bodyOf(await fork(hob, { name: "copy" }));
        assert.equal(error, code);
        assert.match(message, text);
        assert.equal((await hob.fetch("/v1/sprites/copy")).status, 404);
      }
    }));

  test("needs a name that a sprite may have, and that none has, before its source is brought into the store", () =>
    withSource(async (hob) => {
      let synced = 0;
      hob.pilot.onSync = async () => void synced++;
      for (const name of ["Bad_Name", "", "a/b", "../web", "x".repeat(64)]) {
        const answer = await fork(hob, { name });
        assert.deepEqual([answer.status, (await bodyOf(answer)).error], [400, "invalid_name"], name);
      }
      assert.equal((await bodyOf(await fork(hob, { name: "web" }))).error, "name_taken");
      assert.equal(synced, 0);
    }));

  test("has policies of its own from then on", () =>
    withSource(async (hob) => {
      assert.equal((await fork(hob, { name: "copy" })).status, 201);
      await set(hob, "copy", "network", { rules: [] });
      await set(hob, "web", "resources", {});
      assert.deepEqual(await policies(hob, "web"), { ...POLICIES, resources: {} });
      assert.deepEqual(await policies(hob, "copy"), { ...POLICIES, network: { rules: [] } });
    }));

  test("of a checkpoint or a sprite that is not there leaves nothing", () =>
    withSource(async (hob) => {
      for (const json of [{ name: "copy", checkpoint: "v9" }]) assert.equal((await fork(hob, json)).status, 404);
      assert.equal((await hob.fetch("/v1/sprites/none/fork", { method: "POST", json: { name: "copy" } })).status, 404);
      assert.equal((await hob.fetch("/v1/sprites/copy")).status, 404);
    }));
});

describe("an import", () => {
  async function exported(settings: Record<string, unknown> | undefined, volumeBytes = 10 * 1024 ** 3): Promise<Buffer> {
    const store = new MemoryStore();
    await acquire({ store, org: "other", sprite: "sprite-x", owner: "elsewhere", create: true, initial: { volumeBytes } });
    const description: SpriteDocument = {
      ...{ format: "hob-sprite", version: 1, organization: "other", id: "sprite-x", name: "web", machineId: "0".repeat(32), labels: [] },
      ...{ machine: { cpus: 1, ramMb: 1024, storageGb: 10 }, environment: {}, createdAt: new Date().toISOString() },
      settings: settings ?? {},
    };
    if (settings !== undefined) await writeSprite(store, description);
    const parts: Buffer[] = [];
    for await (const part of exportSprite({ store, org: "other", sprite: "sprite-x" })) parts.push(part);
    return Buffer.concat(parts);
  }
  const load = (hob: TestDaemon, name: string, body: Buffer) =>
    hob.fetch(`/v1/storage/import?name=${name}&storage_gb=10`, { method: "POST", body: new Uint8Array(body) });

  test("begins with the policies in the file, before anything in it runs", async () => {
    await using hob = await TestDaemon.start();
    const url_settings = { auth: "public" };
    const made = await load(hob, "copy", await exported({ url_settings, policies: { ...POLICIES, revision: Number.MAX_SAFE_INTEGER } }));
    assert.equal(made.status, 201);
    assert.deepEqual((await bodyOf(made)).url_settings, { auth: "sprite" }, "nothing else of its settings is taken");
    assert.deepEqual(begunWith(hob, "copy"), { ...POLICIES, revision: 1 });
    assert.deepEqual(await policies(hob, "copy"), POLICIES);
    await set(hob, "copy", "network", { rules: [] });
    assert.deepEqual(await policy(hob, "copy", "network"), { rules: [] });
  });

  test("has the disk of the file; one of another size, or of none that there is, is refused and leaves nothing", async () => {
    await using hob = await TestDaemon.start();
    const body = new Uint8Array(await exported({}));
    const send = (query: string) => hob.fetch(`/v1/storage/import?name=copy${query}`, { method: "POST", body });
    for (const size of ["100", "0", "-1", "", "1e9", "x"]) {
      const refused = await send(`&storage_gb=${size}`);
      assert.deepEqual([refused.status, (await bodyOf(refused)).error], [400, "invalid_request"], size);
      assert.equal((await hob.fetch("/v1/sprites/copy")).status, 404);
    }
    const odd = await load(hob, "copy", await exported({}, 10 * 1024 ** 3 + 65_536));
    assert.match((await bodyOf(odd)).message, /no size that sprites have/);
    assert.equal(hob.runtime.made.size, 0);
    assert.equal((await send("")).status, 201);
    assert.equal((await bodyOf(await hob.fetch("/v1/sprites/copy"))).config.storage_gb, 10);
  });

  test("without policies in the file begins without", async () => {
    await using hob = await TestDaemon.start();
    for (const [index, settings] of [undefined, {}].entries()) {
      assert.equal((await load(hob, `copy${index}`, await exported(settings))).status, 201);
      assert.deepEqual(await policies(hob, `copy${index}`), { network: { rules: [] }, privileges: {}, resources: {} });
    }
  });

  test("whose policies are not understood is refused, and leaves nothing", async () => {
    await using hob = await TestDaemon.start();
    const valid = { ...POLICIES, revision: 1 };
    const bad = [null, "none", { ...valid, network: { rules: "none" } }, { ...valid, egress: { rate: 1 } }, { revision: 1 }];
    for (const policies of bad) {
      const refused = await load(hob, "copy", await exported({ policies }));
      const { error, message } = await bodyOf(refused);
      assert.equal(error, "store_unsupported", JSON.stringify(policies));
      assert.match(message, /policies are not understood/);
      assert.equal((await hob.fetch("/v1/sprites/copy")).status, 404);
    }
    assert.equal(hob.runtime.made.size, 0);
  });
});

describe("gc with a grace shorter than an upload may take", () => {
  const collect = (hob: TestDaemon, json: object) => hob.fetch("/v1/storage/gc", { method: "POST", json });
  /** What an upload under way has brought: nothing names it yet. */
  async function withPack(body: (hob: TestDaemon, isThere: () => Promise<boolean>) => Promise<void>, more = {}): Promise<void> {
    await using hob = await TestDaemon.start({}, more);
    const store = await DirectoryStore.open(join(hob.home, "store"));
    const key = new OrgKeys(ORG).pack("a".repeat(64));
    await store.put(key, Buffer.from("pack"));
    await body(hob, async () => (await store.head(key)) !== undefined);
  }

  test("is refused while a sprite runs, and removes nothing", () =>
    withPack(async (hob, isThere) => {
      const { id } = await bodyOf(await hob.create("web"));
      for (const grace_seconds of [0, 7_199]) {
        const refused = await collect(hob, { grace_seconds });
        const { error, message, hint } = await bodyOf(refused);
        assert.deepEqual([refused.status, error], [409, "conflict"]);
        assert.match(message, new RegExp(`grace of ${grace_seconds} s: web may be uploading`));
        assert.match(hint, /'hob sleep web'.*2h or more/);
      }
      await hob.create("db");
      assert.match((await bodyOf(await collect(hob, { grace_seconds: 0 }))).message, /(web|db) and 1 more may be uploading/);
      for (const json of [{}, { grace_seconds: 7_200 }, { grace_seconds: 0, dry_run: true }])
        assert.equal((await collect(hob, json)).status, 200);
      assert.ok(await isThere());
      hob.runtime.setStatus(id, "warm");
      hob.runtime.setStatus((await bodyOf(await hob.fetch("/v1/sprites/db"))).id, "cold");
      assert.equal((await bodyOf(await collect(hob, { grace_seconds: 0 }))).deletedPacks, 1);
      assert.ok(!(await isThere()));
    }));

  test("is refused while a sprite sleeps that was uploading", () =>
    withPack(async (hob, isThere) => {
      const { id } = await bodyOf(await hob.create("web"));
      hob.runtime.setStatus(id, "warm");
      hob.runtime.rests.set(id, { ...NOTHING_KNOWN, behind: { since: Date.now(), checkpoints: 0, error: null } });
      const { message, hint } = await bodyOf(await collect(hob, { grace_seconds: 0 }));
      assert.match(message, /web may be uploading/);
      assert.match(hint, /^wait until web is in the object store/);
      assert.ok(await isThere());
      // Without its memory it begins anew.
      hob.runtime.setStatus(id, "cold");
      assert.equal((await bodyOf(await collect(hob, { grace_seconds: 0 }))).deletedPacks, 1);
    }));

  test("is refused while a sprite is being made, which may be an import", async () => {
    const { promise: asked, resolve: ask } = Promise.withResolvers<Response>();
    let hob: TestDaemon | undefined;
    const onCall = (call: string) => {
      if (call === "create web" && hob !== undefined) ask(collect(hob, { grace_seconds: 0 }));
    };
    await withPack(
      async (daemon, isThere) => {
        hob = daemon;
        const made = daemon.create("web");
        assert.match((await bodyOf(await asked)).message, /web may be uploading/);
        assert.ok(await isThere());
        assert.equal((await made).status, 201);
      },
      { onCall },
    );
  });
});
