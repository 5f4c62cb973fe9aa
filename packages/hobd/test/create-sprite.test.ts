import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { pino } from "pino";
import { SpriteCreator } from "../src/api/create-sprite.ts";
import type { SpriteContext } from "../src/api/sprite-context.ts";
import { openSqliteRegistry } from "../src/registry/sqlite-registry.ts";
import { temporaryHome, until } from "./support/test-daemon.ts";

test("an import that took longer than one waits for a turn still waits for its own", async (t) => {
  await using home = await temporaryHome();
  await using registry = openSqliteRegistry(join(home.path, "hob.db"));
  const busy = Promise.withResolvers<void>();
  const isLoaded = Promise.withResolvers<void>();
  const made: string[] = [];
  const context = {
    sprites: registry.sprites,
    runtime: {
      create: async ({ name }: { name: string }) => {
        made.push(name);
        if (name === "busy") await busy.promise;
      },
      status: () => "running",
      destroy: async () => {},
    },
    catalogue: { describe: async () => {}, remove: async () => {} },
    gate: { reserve: async () => ({ [Symbol.dispose]() {} }) },
    createRate: { take: () => ({ undo() {} }) },
    events: { emit() {} },
    ...{ urlOf: (name: string) => `http://${name}`, now: Date.now, log: pino({ level: "silent" }) },
  } as unknown as SpriteContext;
  const creator = new SpriteCreator(context, { concurrent: 1, waitMs: 60_000 });
  const first = creator.create({ name: "busy" }, { tokenId: "t" });
  await until("the turn is taken", () => made.length === 1);
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() });
  const storage = async () => {
    t.mock.timers.tick(600_000);
    isLoaded.resolve();
    return {};
  };
  const imported = creator.create({ name: "imported" }, { tokenId: "t", storage });
  const hurried = imported.then(
    () => {},
    (error: unknown) => error,
  );
  await isLoaded.promise;
  await new Promise((resolve) => setImmediate(resolve));
  // A timer whose time is over fires before this one, which was set later.
  await new Promise((resolve) => setTimeout(resolve, 1));
  busy.resolve();
  assert.equal(await hurried, undefined);
  assert.deepEqual([(await first).name, (await imported).name, made], ["busy", "imported", ["busy", "imported"]]);
});
