import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { sdkMethods } from "./support/sdk-methods.ts";

/** What no test calls, and why. */
const EXCEPTIONS: readonly [pattern: RegExp, reason: string][] = [
  [/^SpritesClient\.createToken$/, "sends to a host that the SDK has written in; the route is tested without the SDK"],
  [/^(ControlConnection|OpConn)\./, "parts of a connection to /control, which is not offered: 404 makes the SDK do without"],
];

const FOLDER = import.meta.dirname;

/**
 * Methods that were called in this run of all suites; without such a run, those that the suites' sources call. Plain
 * functions are always looked for in the sources: a module's exports cannot be exchanged for such that take notes.
 */
function calledMethods(methods: readonly string[]): ReadonlySet<string> {
  const { HOB_SDK_CALLS: file } = process.env;
  if (file === undefined) return calledInSources(methods);
  const functions = methods.filter((method) => !method.includes("."));
  return new Set([...readFileSync(file, "utf8").split("\n"), ...calledInSources(functions)]);
}

function calledInSources(methods: readonly string[]): ReadonlySet<string> {
  const source = globSync(["*.test.ts", "support/*.ts"], { cwd: FOLDER })
    .filter((name) => name !== "sdk-coverage.test.ts")
    .map((name) => readFileSync(join(FOLDER, name), "utf8"))
    .join("\n");
  const isCalled = (method: string) => new RegExp(`(?:\\.|\\b)${method.split(".").at(-1)}(?:<[^(]*>)?\\(`).test(source);
  return new Set(methods.filter(isCalled));
}

test("the SDK's declarations are read as they are", () => {
  const methods = sdkMethods();
  for (const known of ["Sprite.spawn", "SpritesClient.createSprite", "SpriteFilesystem.readFile", "ProxySession.close"]) {
    assert.ok(methods.includes(known), known);
  }
  assert.ok(!methods.some((method) => method.endsWith(".buildURL")), "private ones are left out");
});

test("every public method of the official SDK is called by a suite, or stands on the list with a reason", () => {
  const methods = sdkMethods();
  const called = calledMethods(methods);
  const isExcepted = (method: string) => EXCEPTIONS.some(([pattern]) => pattern.test(method));
  assert.deepEqual(
    methods.filter((method) => !called.has(method) && !isExcepted(method)),
    [],
  );
  assert.deepEqual(
    EXCEPTIONS.filter(([pattern]) => !methods.some((method) => pattern.test(method))).map(String),
    [],
    "exceptions of nothing",
  );
});
