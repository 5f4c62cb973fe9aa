import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { acquire, collectGarbage, listAll, OrgKeys, readSprite, writeSprite } from "@hob/storage";
import { DirectoryStore } from "@hob/storage/store/directory-store.ts";
import { pino } from "pino";
import { MemoryStore } from "../../storage/test/support/memory-store.ts";
import { SpriteCatalogue } from "../src/object-store/catalogue.ts";
import { SpriteStorage } from "../src/object-store/sprite-storage.ts";
import type { SpriteRecord } from "../src/registry/registry.ts";
import { openSqliteRegistry } from "../src/registry/sqlite-registry.ts";
import { temporaryHome } from "./support/test-daemon.ts";

const ORG = "hob";
const POLICIES: SpriteRecord["policies"] = {
  revision: 4,
  network: { rules: [{ domain: "*", action: "deny" }] },
  privileges: { profile: "minimal" },
  resources: { cpu: { limit: 1 } },
};

const record: SpriteRecord = {
  id: "sprite-3f1c0c1e-0000-4000-8000-000000000001",
  name: "web",
  state: "creating",
  machine: { cpus: 2, ramMb: 1024, storageGb: 10 },
  labels: [],
  urlSettings: { auth: "sprite" },
  environment: {},
  machineId: "0".repeat(32),
  pilotToken: "1".repeat(64),
  policies: POLICIES,
  createdAt: 1_000,
  updatedAt: 1_000,
  lastRunningAt: null,
  lastWarmingAt: null,
  idleTimeoutSeconds: null,
};

test("a host that adopts a sprite from the store has its policies too; it leaves one whose policies it does not understand", async () => {
  await using home = await temporaryHome();
  const store = await DirectoryStore.open(join(home.path, "store"));
  const log = pino({ level: "silent" });
  const catalogue = new SpriteCatalogue(new SpriteStorage({ store, organization: ORG, owner: "test", log }), log);
  await acquire({ store, org: ORG, sprite: record.id, owner: "test", create: true, initial: { volumeBytes: 10 * 1024 ** 3 } });
  await catalogue.describe(record);
  const adopted = async (name: string) => {
    await using registry = openSqliteRegistry(join(home.path, name));
    await catalogue.adopt(registry.sprites, () => 2_000);
    return registry.sprites.findByName("web");
  };
  assert.deepEqual((await adopted("one.db"))?.policies, POLICIES);
  const document = await readSprite(store, ORG, record.id);
  assert.ok(document !== undefined, new OrgKeys(ORG).sprite(record.id).description);
  await writeSprite(store, { ...document, settings: { ...document.settings, policies: { ...POLICIES, network: { rules: "none" } } } });
  assert.equal(await adopted("two.db"), undefined);
});

test("descriptions are written in the order in which they were known, and none after the sprite has gone", async () => {
  const first = Promise.withResolvers<void>();
  let puts = 0;
  class SlowOnce extends MemoryStore {
    override async put(...args: Parameters<MemoryStore["put"]>): ReturnType<MemoryStore["put"]> {
      if (puts++ === 0) await first.promise;
      return super.put(...args);
    }
  }
  const store = new SlowOnce();
  const log = pino({ level: "silent" });
  const catalogue = new SpriteCatalogue(new SpriteStorage({ store, organization: ORG, owner: "test", log }), log);
  const writing = [catalogue.describe(record), catalogue.describe({ ...record, name: "newer" })];
  let isSettled = false;
  const settled = catalogue.settled().then(() => {
    isSettled = true;
  });
  // All that can go on without the first has gone on.
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([puts, isSettled], [1, false]);
  first.resolve();
  await Promise.all([...writing, settled]);
  assert.equal((await readSprite(store, ORG, record.id))?.name, "newer");
  const late = catalogue.describe(record);
  await catalogue.remove(record.id);
  await late;
  assert.equal(await readSprite(store, ORG, record.id), undefined);
});

test("a sprite whose head is damaged can be destroyed, and nothing of it stays that keeps gc from its work", async () => {
  await using home = await temporaryHome();
  const store = await DirectoryStore.open(join(home.path, "store"));
  const log = pino({ level: "silent" });
  const catalogue = new SpriteCatalogue(new SpriteStorage({ store, organization: ORG, owner: "test", log }), log);
  const other = record.id.replace(/1$/, "2");
  for (const sprite of [record.id, other])
    await acquire({ store, org: ORG, sprite, owner: "test", create: true, initial: { volumeBytes: 10 * 1024 ** 3 } });
  await catalogue.describe(record);
  const keys = new OrgKeys(ORG).sprite(record.id);
  await store.put(`${keys.checkpoints}v1-${"a".repeat(64)}.json`, Buffer.from("{}"));
  await store.put(keys.head, Buffer.from("no head"));
  await assert.rejects(collectGarbage({ store, org: ORG, graceMs: 0 }), /head/);
  await catalogue.remove(record.id);
  await catalogue.remove(record.id);
  const left: string[] = [];
  for await (const { key } of listAll(store, new OrgKeys(ORG).sprites)) left.push(key);
  assert.deepEqual(left, [new OrgKeys(ORG).sprite(other).head]);
});
