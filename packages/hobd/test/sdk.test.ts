import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SpritesClient } from "@fly/sprites";
import { TestDaemon } from "./support/test-daemon.ts";

/** The official SDK, unchanged, pointed at a daemon. */
async function withClient(body: (client: SpritesClient, hob: TestDaemon) => Promise<void>, maxRunning = 100): Promise<void> {
  await using hob = await TestDaemon.start({ maxRunning });
  await body(new SpritesClient(hob.token, { baseURL: hob.url }), hob);
}

describe("the official JavaScript SDK", () => {
  test("creates, gets, updates, checks and deletes", () =>
    withClient(async (client) => {
      const sprite = await client.createSprite("one", {
        config: { ramMB: 2048, cpus: 1 },
        environment: { KEY_Name: "v" },
        labels: ["a"],
        urlSettings: { auth: "public" },
        waitForCapacity: true,
        runtime: "dev",
      });
      assert.deepEqual([sprite.name, sprite.status, sprite.organizationName], ["one", "running", "hob"]);
      const got = await client.getSprite("one");
      assert.deepEqual([got.id, got.environment, got.labels, got.urlSettings?.auth], [sprite.id, { KEY_Name: "v" }, ["a"], "public"]);
      assert.deepEqual([got.config?.ramMB, got.config?.cpus, got.config?.storageGB], [2048, 1, 100]);
      assert(got.createdAt instanceof Date && got.url?.startsWith("http://one.sprites.localhost:"));
      const updated = await client.updateSprite("one", { labels: ["b"], urlSettings: { auth: "sprite" } });
      assert.deepEqual([updated.labels, updated.urlSettings?.auth], [["b"], "sprite"]);
      const check = await client.checkSprite("one");
      assert.deepEqual([check.spriteId, check.status], [sprite.id, "healthy"]);
      await client.deleteSprite("one");
      await assert.rejects(client.getSprite("one"), { statusCode: 404, errorCode: "not_found" });
      await assert.rejects(client.deleteSprite("one"), { statusCode: 404 });
    }));

  test("lists in pages and watches", () =>
    withClient(async (client) => {
      const names = Array.from({ length: 120 }, (_, i) => `s-${String(i).padStart(3, "0")}`);
      for (const name of names) await client.createSprite(name, { waitForCapacity: false });
      assert.deepEqual(
        (await client.listAllSprites("s-")).map(({ name }) => name),
        names,
      );
      const page = await client.listSprites({ maxResults: 7, prefix: "s-1" });
      assert.deepEqual(
        [page.sprites.length, page.hasMore, page.running, page.organizationName, page.runningLimit],
        [7, true, 7, "hob", 200],
      );
      const stream = await client.watchSprites({ prefix: "s-00", maxResults: 4 });
      const seen: (string | undefined)[] = [];
      for await (const event of stream) {
        seen.push(event.name);
        if (seen.length === 10) break;
      }
      assert.deepEqual(seen, names.slice(0, 10));
    }, 200));

  test("understands the errors", () =>
    withClient(async (client, hob) => {
      await client.createSprite("one");
      await assert.rejects(
        client.createSprite("two"),
        (error: { isConcurrentLimitExceeded(): boolean; limit: number; currentCount: number; getRetryAfterSeconds(): number }) => {
          assert.equal(error.isConcurrentLimitExceeded(), true);
          assert.deepEqual([error.limit, error.currentCount], [1, 1]);
          assert(error.getRetryAfterSeconds() > 0);
          return true;
        },
      );
      await assert.rejects(client.createSprite("one"), { statusCode: 400, errorCode: "name_taken" });
      await assert.rejects(client.createSprite("Not.A.Name"), { statusCode: 400, errorCode: "invalid_name" });
      await assert.rejects(new SpritesClient("wrong", { baseURL: hob.url }).getSprite("one"), {
        statusCode: 401,
        errorCode: "unauthorized",
      });
    }, 1));
});
