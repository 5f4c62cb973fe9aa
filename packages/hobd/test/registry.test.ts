import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { planMigration } from "../src/registry/migrations.ts";
import { canMove, SPRITE_STATES, type SpriteRecord } from "../src/registry/registry.ts";
import { openSqliteRegistry } from "../src/registry/sqlite-registry.ts";
import { temporaryHome } from "./support/test-daemon.ts";

const record = (name: string, more: Partial<SpriteRecord> = {}): SpriteRecord => ({
  id: `sprite-${name}`,
  name,
  state: "creating",
  machine: { cpus: 2, ramMb: 1024, storageGb: 100 },
  labels: ["a", "b"],
  urlSettings: { auth: "sprite" },
  environment: { KEY: "välue\n" },
  machineId: "0".repeat(32),
  pilotToken: "1".repeat(64),
  policies: { revision: 3, network: { rules: [{ domain: "a.test", action: "allow" }] }, privileges: {}, resources: {} },
  createdAt: 1_000,
  updatedAt: 1_000,
  lastRunningAt: null,
  lastWarmingAt: null,
  idleTimeoutSeconds: null,
  ...more,
});

async function withRegistry(body: (registry: ReturnType<typeof openSqliteRegistry>, path: string) => Promise<void>): Promise<void> {
  await using home = await temporaryHome();
  const path = join(home.path, "hob.db");
  await using registry = openSqliteRegistry(path);
  await body(registry, path);
}

describe("sprite registry", () => {
  test("keeps every field across a close", () =>
    withRegistry(async ({ sprites }, path) => {
      await sprites.insert(record("one", { lastWarmingAt: 5, idleTimeoutSeconds: 0 }));
      await using again = openSqliteRegistry(path);
      assert.deepEqual(await again.sprites.findByName("one"), record("one", { lastWarmingAt: 5, idleTimeoutSeconds: 0 }));
    }));

  test("takes a name once, until its sprite is being destroyed", () =>
    withRegistry(async ({ sprites }) => {
      await sprites.insert(record("one"));
      await assert.rejects(sprites.insert(record("one", { id: "sprite-other" })), { code: "name_taken" });
      assert.equal(await sprites.move("sprite-one", "creating", "ready", 2), true);
      await assert.rejects(sprites.insert(record("one", { id: "sprite-other" })), { code: "name_taken" });
      assert.equal(await sprites.move("sprite-one", "ready", "destroying", 3), true);
      await sprites.insert(record("one", { id: "sprite-other" }));
      assert.equal((await sprites.findByName("one"))?.id, "sprite-other");
      assert.deepEqual(
        (await sprites.listByState("destroying")).map(({ id }) => id),
        ["sprite-one"],
      );
    }));

  test("moves only from the state that was named, and only along the table", () =>
    withRegistry(async ({ sprites }) => {
      await sprites.insert(record("one"));
      assert.equal(await sprites.move("sprite-one", "ready", "destroying", 2), false);
      assert.equal(await sprites.move("sprite-one", "creating", "ready", 2), true);
      assert.equal(await sprites.move("sprite-one", "creating", "ready", 2), false);
      for (const from of SPRITE_STATES) {
        for (const to of SPRITE_STATES) {
          if (!canMove(from, to)) await assert.rejects(sprites.move("sprite-one", from, to, 2), /cannot move/);
        }
      }
      assert.equal((await sprites.findById("sprite-one"))?.state, "ready");
    }));

  test("lists what is ready by name, by prefix, in pages", () =>
    withRegistry(async ({ sprites }) => {
      for (const name of ["b", "a-2", "a-10", "ab", "a"]) {
        await sprites.insert(record(name));
        await sprites.move(`sprite-${name}`, "creating", "ready", 2);
      }
      await sprites.insert(record("a-creating"));
      const names = async (prefix: string, after: string, limit: number) =>
        (await sprites.list({ prefix, after, limit })).map(({ name }) => name);
      assert.deepEqual(await names("", "", 10), ["a", "a-10", "a-2", "ab", "b"]);
      assert.deepEqual(await names("a-", "", 10), ["a-10", "a-2"]);
      assert.deepEqual(await names("a", "a-10", 2), ["a-2", "ab"]);
      assert.deepEqual(await names("%", "", 10), []);
      assert.equal((await sprites.listReadyIds()).length, 5);
    }));

  test("an abandoned create forgets its key; a destroyed sprite does not", () =>
    withRegistry(async ({ sprites }) => {
      const key = (spriteId: string, name: string) => ({ key: name, requestHash: "h", spriteId, createdAt: 10 });
      await sprites.insert(record("one"), key("sprite-one", "k1"));
      await sprites.abandon("sprite-one", 2);
      assert.equal(await sprites.findIdempotency("k1"), undefined);
      await sprites.insert(record("two"), key("sprite-two", "k2"));
      await sprites.move("sprite-two", "creating", "ready", 2);
      await sprites.abandon("sprite-two", 3);
      assert.equal((await sprites.findById("sprite-two"))?.state, "ready");
      await sprites.remove("sprite-two");
      assert.equal((await sprites.findIdempotency("k2"))?.spriteId, "sprite-two");
      assert.equal(await sprites.purgeIdempotency(10), 0);
      assert.equal(await sprites.purgeIdempotency(11), 1);
    }));

  test("a key that cannot be stored takes its sprite with it", () =>
    withRegistry(async ({ sprites }) => {
      const broken = { key: "k", requestHash: null as unknown as string, spriteId: "sprite-one", createdAt: 1 };
      await assert.rejects(sprites.insert(record("one"), broken), { code: "internal" });
      assert.equal(await sprites.findByName("one"), undefined);
    }));
});

describe("registry file", () => {
  test("plans migrations: what is missing, nothing twice, and a refusal above the floor", () => {
    const known = [1, 2, 3].map((version) => ({ version, floor: 1, sql: "" }));
    const versions = (current?: { version: number; floor: number }) => {
      const plan = planMigration(current, known);
      return plan.kind === "apply" ? plan.migrations.map(({ version }) => version) : "refused";
    };
    assert.deepEqual(versions(), [1, 2, 3]);
    assert.deepEqual(versions({ version: 2, floor: 1 }), [3]);
    assert.deepEqual(versions({ version: 3, floor: 1 }), []);
    assert.deepEqual(versions({ version: 9, floor: 3 }), []);
    assert.deepEqual(versions({ version: 9, floor: 4 }), "refused");
  });

  test("a newer file is refused and left alone", () =>
    withRegistry(async (registry, path) => {
      await registry[Symbol.asyncDispose]();
      const database = new DatabaseSync(path);
      database.exec("UPDATE schema_version SET version = 99, floor = 99");
      database.close();
      assert.throws(() => openSqliteRegistry(path), { code: "registry_unusable" });
    }));

  test("what is no database is refused", async () => {
    await using home = await temporaryHome();
    const path = join(home.path, "hob.db");
    writeFileSync(path, "not a database at all".repeat(100));
    assert.throws(() => openSqliteRegistry(path), { code: "registry_unusable" });
    assert.throws(() => openSqliteRegistry(join(home.path, "missing", "hob.db")), { code: "home_unusable" });
  });
});
