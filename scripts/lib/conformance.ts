import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { API_ROUTES, ROUTES_NOT_OFFERED, type RouteDescription } from "@hob/protocol/api/index.ts";
import { PROJECT } from "./steps.ts";

/** How tests name a route: its method, WSS for an upgrade, and its path with parameters. */
export const routeKey = ({ method, path, webSocket }: RouteDescription): string => `${webSocket === undefined ? method : "WSS"} ${path}`;

/** A test that exercises a route. */
export interface CoveringTest {
  /** from the project's folder */
  file: string;
  test: string;
}

/** The tests that say so by `covers(…)`, by route. Only whole words of the source are read: nothing is run. */
export function findCoverage(): Map<string, CoveringTest[]> {
  const coverage = new Map<string, CoveringTest[]>();
  const files = globSync(["test/e2e/**/*.test.ts", "packages/*/test/**/*.test.ts"], { cwd: PROJECT }).sort();
  for (const file of files) {
    for (const { route, test } of coverageIn(readFileSync(join(PROJECT, file), "utf8"))) {
      coverage.set(route, [...(coverage.get(route) ?? []), { file, test }]);
    }
  }
  return coverage;
}

/** What one file covers. A call before the first test is one of the whole file. */
export function coverageIn(source: string): { route: string; test: string }[] {
  const found: { route: string; test: string }[] = [];
  let test = "";
  for (const match of source.matchAll(/\b(?:test|it)\(\s*(["'`])((?:\\.|(?!\1).)*)\1|\bcovers\(([^)]*)\)/g)) {
    const [, , title, routes] = match;
    if (title !== undefined) test = title;
    for (const [, route = ""] of (routes ?? "").matchAll(/["'`]([^"'`]+)["'`]/g)) found.push({ route, test });
  }
  return found;
}

/** docs/conformance.md */
export function conformancePage(coverage: ReadonlyMap<string, readonly CoveringTest[]>): string {
  const table = (routes: readonly RouteDescription[]) => [
    "| route | what | implemented | tests |",
    "| --- | --- | --- | --- |",
    ...rowsOf(routes).map(
      ({ key, summary }) => `| \`${key.replaceAll("|", "\\|")}\` | ${summary} | yes | ${testsCell(coverage.get(key) ?? [])} |`,
    ),
  ];
  const families = [...new Set(API_ROUTES.map(({ family }) => family))];
  const ofFamily = (family: string, extension: boolean) =>
    API_ROUTES.filter((route) => route.family === family && (route.extension ?? false) === extension);
  const standard = families.filter((family) => ofFamily(family, false).length > 0);
  return `${[
    "# Conformance",
    "",
    "This page is written by `scripts/docs.ts` from the route descriptions in `packages/protocol/src/api` and from the calls of `covers`",
    "in the tests. Do not edit it: run `npm run docs`. A unit test fails when a route has no test.",
    "",
    "## The Sprites API",
    ...standard.flatMap((family) => ["", `### ${family}`, "", ...table(ofFamily(family, false))]),
    "",
    "## Hob's own routes",
    "",
    ...table(API_ROUTES.filter(({ extension }) => extension)),
    "",
    "## Not offered",
    "",
    "| route | why |",
    "| --- | --- |",
    ...ROUTES_NOT_OFFERED.map(({ method, path, reason }) => `| \`${method} ${path}\` | ${reason} |`),
  ].join("\n")}\n`;
}

/** Descriptions of one route that differ by media type are one row. */
function rowsOf(routes: readonly RouteDescription[]): { key: string; summary: string }[] {
  const rows = new Map<string, string[]>();
  for (const route of routes) rows.set(routeKey(route), [...(rows.get(routeKey(route)) ?? []), route.summary]);
  return [...rows].map(([key, summaries]) => ({ key, summary: summaries.join(" ").replaceAll("|", "\\|") }));
}

/** Files, each once, in order. */
function testsCell(tests: readonly CoveringTest[]): string {
  const files = [...new Set(tests.map(({ file }) => file))];
  return files.length === 0 ? "none" : files.map((file) => `[${file.split("/").at(-1)}](../${file})`).join(", ");
}
