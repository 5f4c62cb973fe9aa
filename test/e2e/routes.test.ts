import assert from "node:assert/strict";
import { test } from "node:test";
import { API_ROUTES, ROUTES_NOT_OFFERED, type RouteDescription } from "@hob/protocol/api/index.ts";
import { WebSocket } from "ws";
import { useDaemon } from "./support/suite.ts";
import { refusedUpgrade } from "./support/upgrade.ts";

const LIMIT = { timeout: 120_000 };
const suite = useDaemon({ sprites: ["box"] });

/** Asked of a sprite that is not there, so that they do nothing: the host answers them, and says what is missing. */
const OF_NO_SPRITE: ReadonlySet<string> = new Set([
  "DELETE /v1/sprites/{name}",
  "POST /v1/sprites/{name}/restart",
  "POST /v1/sprites/{name}/upgrade",
  "POST /v1/sprites/{name}/sleep",
]);

const NO_ROUTE = /no such route|not a method of this route/;

function targetOf({ method, path }: RouteDescription): string {
  const name = OF_NO_SPRITE.has(`${method} ${path}`) ? "none" : "box";
  // Whatever the parameter names, nothing of this name is there.
  return path
    .replace("{name}", name)
    .replace("{organization}", "none")
    .replace(/\{\w+\}/g, "0");
}

/** What the server says of a request without what it needs; a stream that begins is answer enough. */
async function answerOf({ method, path, ...route }: RouteDescription): Promise<{ status: number; message: string }> {
  const gone = new AbortController();
  const body = method === "PUT" || method === "POST" ? "not JSON" : null;
  const response = await suite.daemon.fetch(targetOf({ method, path, ...route }), { method, body, signal: gone.signal });
  const message = response.status >= 400 ? await response.text() : "";
  gone.abort();
  return { status: response.status, message };
}

async function upgradeOf(route: RouteDescription): Promise<{ status: number; message: string }> {
  const url = `${suite.daemon.url}${targetOf(route)}`;
  const socket = new WebSocket(url.replace("http", "ws"), { headers: { authorization: `Bearer ${suite.daemon.token}` } });
  const opened = await new Promise<boolean>((resolve) => {
    socket.once("open", () => resolve(true));
    socket.once("error", () => resolve(false));
  });
  socket.terminate();
  if (opened) return { status: 101, message: "" };
  const { status, body } = await refusedUpgrade(url, suite.daemon.token);
  return { status, message: body.message ?? "" };
}

test("every route that is described is there: its refusal is its own", LIMIT, async () => {
  const missing: string[] = [];
  for (const route of API_ROUTES) {
    const { status, message } = await (route.webSocket === undefined ? answerOf(route) : upgradeOf(route));
    if (status >= 500 || ((status === 404 || status === 405) && NO_ROUTE.test(message)))
      missing.push(`${route.method} ${route.path}: ${status} ${message}`);
  }
  assert.deepEqual(missing, []);
});

test("what is said not to be offered is not", LIMIT, async () => {
  for (const { method, path } of ROUTES_NOT_OFFERED) {
    const response = await suite.daemon.fetch(path.replace("{name}", "box").replace(/\{\w+\}/g, "x"), { method });
    assert.equal(response.status, 404, `${method} ${path}`);
  }
});
