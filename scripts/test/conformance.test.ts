import assert from "node:assert/strict";
import { test } from "node:test";
import { API_ROUTES, openApiDocument } from "@hob/protocol/api/index.ts";
import { coverageIn, findCoverage, routeKey } from "../lib/conformance.ts";

test("every route has a test that says so, and no test names a route that is none", () => {
  const coverage = findCoverage();
  const routes = new Set(API_ROUTES.map(routeKey));
  assert.deepEqual(
    [...routes].filter((route) => !coverage.has(route)),
    [],
    "routes without a test: call covers(…) in the test that exercises them",
  );
  assert.deepEqual(
    [...coverage.keys()].filter((route) => !routes.has(route)),
    [],
    "tests name routes that are not described in packages/protocol/src/api",
  );
});

test("calls of covers are found with their tests", () => {
  const source = `
    covers("GET /whole/file");
    test("first", () => { covers("GET /a", 'POST /a'); });
    it(\`second "quoted"\`, () => covers(
      "WSS /v1/sprites/{name}/exec",
    ));`;
  assert.deepEqual(coverageIn(source), [
    { route: "GET /whole/file", test: "" },
    { route: "GET /a", test: "first" },
    { route: "POST /a", test: "first" },
    { route: "WSS /v1/sprites/{name}/exec", test: 'second "quoted"' },
  ]);
});

test("the OpenAPI document has every route once, with answers, and resolves its references", () => {
  const document = openApiDocument(API_ROUTES, "1.2.3");
  const operations = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, value]) => ({ path, method, value })),
  );
  const ids = operations.map(({ value }) => (value as { operationId: string }).operationId);
  assert.equal(new Set(ids).size, ids.length, "operation ids are unique");
  for (const { method, path } of API_ROUTES) assert.ok(document.paths[path]?.[method.toLowerCase()], `${method} ${path}`);
  for (const { path, method, value } of operations) {
    const { responses, parameters = [] } = value as {
      responses: Record<string, { description: string }>;
      parameters?: { name: string; in: string }[];
    };
    assert.ok(Object.keys(responses).length > 0, `${method} ${path}: no answers`);
    for (const [status, { description }] of Object.entries(responses)) assert.ok(/^\d{3}$/.test(status) && description.length > 0);
    const named = [...path.matchAll(/\{([^}]+)\}/g)].map(([, name]) => name);
    assert.deepEqual(
      parameters.filter((parameter) => parameter.in === "path").map(({ name }) => name),
      named,
      path,
    );
  }
  for (const [, reference] of JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)) {
    assert.ok((document.components as { schemas: object }).schemas[reference as never], reference);
  }
});
