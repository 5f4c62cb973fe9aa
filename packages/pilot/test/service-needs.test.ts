import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { HobError } from "@hob/protocol";
import fc from "fast-check";
import type { ServiceDefinition } from "../src/services/definition.ts";
import { checkDefinition, dependents, startOrder } from "../src/services/needs.ts";

const define = (name: string, needs: string[] = [], httpPort?: number): ServiceDefinition => ({
  name,
  cmd: "true",
  args: [],
  env: {},
  needs,
  ...(httpPort === undefined ? {} : { httpPort }),
});
const mapOf = (...all: ServiceDefinition[]) => new Map(all.map((definition) => [definition.name, definition]));

const refusal = (definition: ServiceDefinition, others: Map<string, ServiceDefinition>): HobError => {
  try {
    checkDefinition(definition, others);
  } catch (error) {
    assert.ok(error instanceof HobError);
    return error;
  }
  return assert.fail("it was accepted");
};

describe("needs", () => {
  test("what is needed comes first, alphabetically among equals", () => {
    const all = mapOf(define("web", ["db", "cache"]), define("db", ["disk"]), define("disk"), define("cache"), define("alone"));
    assert.deepEqual(startOrder(all), ["alone", "cache", "disk", "db", "web"]);
    assert.deepEqual(startOrder(all, ["db"]), ["disk", "db"]);
    assert.deepEqual(dependents("disk", all), ["db"]);
  });

  test("a circle is refused and named", () => {
    const all = mapOf(define("a", ["b"]), define("b", ["c"]), define("c"));
    const error = refusal(define("c", ["a"]), all);
    assert.equal(error.code, "invalid_request");
    assert.match(error.message, /c → a → b → c$/);
    assert.match(refusal(define("x", ["x"]), new Map()).message, /x → x$/);
  });

  test("an unknown need is refused by its name", () => {
    const error = refusal(define("web", ["nothing"]), new Map());
    assert.equal(error.code, "invalid_request");
    assert.match(error.message, /nothing/);
  });

  test("one service may have the HTTP port, and may keep it", () => {
    const all = mapOf(define("web", [], 80), define("other"));
    const error = refusal(define("other", [], 81), all);
    assert.equal(error.code, "conflict");
    assert.equal(error.message, "another service already has an HTTP port configured");
    checkDefinition(define("web", [], 8080), all);
    checkDefinition(define("other"), all);
  });

  test("any set that was accepted one by one has an order in which nothing comes before what it needs", () => {
    const edge = fc.tuple(fc.nat(9), fc.nat(9));
    fc.assert(
      fc.property(fc.array(edge, { maxLength: 40 }), (edges) => {
        const all = mapOf(...Array.from({ length: 10 }, (_, i) => define(`s${i}`)));
        for (const [from, to] of edges) {
          const changed = define(`s${from}`, [...new Set([...(all.get(`s${from}`)?.needs ?? []), `s${to}`])]);
          const creates = startOrder(all, [`s${to}`]).includes(`s${from}`);
          if (creates) assert.match(refusal(changed, all).message, /circle/);
          else {
            checkDefinition(changed, all);
            all.set(changed.name, changed);
          }
        }
        const order = startOrder(all);
        assert.equal(order.length, 10);
        for (const { name, needs } of all.values()) for (const need of needs) assert.ok(order.indexOf(need) < order.indexOf(name));
      }),
    );
  });

  test("a circle on a damaged volume does not hang the start", () => {
    assert.deepEqual(startOrder(mapOf(define("a", ["b"]), define("b", ["a", "gone"]))).sort(), ["a", "b"]);
  });
});
