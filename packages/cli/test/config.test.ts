import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { HobError } from "@hob/protocol";
import { resolveClientSettings, resolveHome } from "../src/config.ts";
import { TestHome } from "./support/run-hob.ts";

const withCode = (code: string) => (thrown: unknown) => thrown instanceof HobError && thrown.code === code;

test("home: flag, HOB_HOME, the user's data directory", () => {
  assert.equal(resolveHome({ home: "/a" }, { HOB_HOME: "/b", HOME: "/c" }), "/a");
  assert.equal(resolveHome({}, { HOB_HOME: "/b", HOME: "/c" }), "/b");
  assert.equal(resolveHome({}, { HOB_HOME: "", HOME: "/c" }), "/c/.local/share/hob");
  assert.equal(resolveHome({ home: "rel" }, {}), join(process.cwd(), "rel"));
});

test("url and token: flags, environment, the home's files", () => {
  using home = new TestHome();
  const env = { HOB_HOME: home.path };
  assert.throws(() => resolveClientSettings({}, env), withCode("cannot_connect"));
  writeFileSync(join(home.path, "hobd.json"), JSON.stringify({ pid: 1, url: "http://127.0.0.1:5", version: "1" }));
  assert.throws(() => resolveClientSettings({}, env), withCode("unauthorized"));
  writeFileSync(join(home.path, "token"), "file-token\n");
  assert.deepEqual(resolveClientSettings({}, env), { url: "http://127.0.0.1:5", token: "file-token" });
  assert.deepEqual(resolveClientSettings({}, { ...env, HOB_TOKEN: "env-token" }), { url: "http://127.0.0.1:5", token: "env-token" });
  assert.deepEqual(resolveClientSettings({ token: "flag" }, { ...env, HOB_TOKEN: "env-token" }), {
    url: "http://127.0.0.1:5",
    token: "flag",
  });
  assert.deepEqual(resolveClientSettings({ url: "http://x", token: "flag" }, {}), { url: "http://x", token: "flag" });
  assert.deepEqual(resolveClientSettings({}, { ...env, HOB_URL: "http://localhost:5" }), {
    url: "http://localhost:5",
    token: "file-token",
  });
});

test("the home's token stays at home", () => {
  using home = new TestHome();
  writeFileSync(join(home.path, "hobd.json"), JSON.stringify({ pid: 1, url: "http://127.0.0.1:5", version: "1" }));
  writeFileSync(join(home.path, "token"), "secret");
  for (const url of ["http://127.0.0.1:6", "https://127.0.0.1:5", "http://127.0.0.1.example:5", "http://example.com:5", "nonsense"]) {
    assert.throws(() => resolveClientSettings({ url }, { HOB_HOME: home.path }), withCode("unauthorized"), url);
  }
});
