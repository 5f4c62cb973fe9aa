import {
  durationQuery,
  HobError,
  logsQuery,
  type ServiceEvent,
  serviceRequest,
  signalServiceRequest,
  stopQuery,
  toHobError,
} from "@hob/protocol";
import { type Context, Hono } from "hono";
import { stream } from "hono/streaming";
import { readJson, readQuery } from "../api/json-body.ts";
import { parseDurationMs } from "../exec/index.ts";
import { EventFeed } from "./event-feed.ts";
import type { Operation, ServiceManager } from "./manager.ts";

/** How long a start is watched unless the client says otherwise. */
const WATCH_MS = 5_000;
const STOP_GRACE_MS = 10_000;

/** Routes below `/services`; docs/api/services.md describes them. */
export function serviceRoutes(services: ServiceManager): Hono {
  const app = new Hono();
  app.get("/services", (c) => c.json(services.list()));
  app.post("/services/signal", async (c) => {
    const { name, signal } = await readJson(c, signalServiceRequest, "signal service");
    services.signal(name, signal);
    return c.body(null, 204);
  });
  app.get("/services/:service", (c) => c.json(services.get(nameOf(c))));
  app.put("/services/:service", async (c) => {
    const watchMs = milliseconds(readQuery(c, durationQuery, "define service").duration, WATCH_MS);
    return showOperation(c, await services.put(nameOf(c), await readJson(c, serviceRequest, "define service")), watchMs);
  });
  app.delete("/services/:service", async (c) => {
    await services.remove(nameOf(c));
    return c.body(null, 204);
  });
  app.post("/services/:service/start", (c) => {
    const watchMs = milliseconds(readQuery(c, durationQuery, "start service").duration, WATCH_MS);
    return showOperation(c, services.start(nameOf(c)), watchMs);
  });
  app.post("/services/:service/stop", (c) => {
    const graceMs = milliseconds(readQuery(c, stopQuery, "stop service").timeout, STOP_GRACE_MS);
    return showOperation(c, services.stop(nameOf(c), graceMs), 0);
  });
  app.post("/services/:service/restart", (c) => {
    const watchMs = milliseconds(readQuery(c, durationQuery, "restart service").duration, WATCH_MS);
    return showOperation(c, services.restart(nameOf(c)), watchMs);
  });
  app.get("/services/:service/logs", (c) => showLogs(c, services, nameOf(c)));
  return app;
}

const nameOf = (c: Context): string => c.req.param("service") ?? "";

function milliseconds(text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const ms = parseDurationMs(text);
  if (ms === undefined) throw new HobError("invalid_request", "services: a duration of at most 24 days expected");
  return ms;
}

/** Answers with what happens while the operation is done, and for a while after that. The client may go; it is done all the same. */
function showOperation(c: Context, operation: Operation, watchMs: number): Response {
  const feed = new EventFeed();
  const { done, unsubscribe } = operation.begin(feed.push);
  void done
    .catch((error) => feed.push({ type: "error", data: toHobError(error).message, timestamp: Date.now() }))
    .then(() => endAfter(feed, watchMs, c.req.raw.signal));
  return ndjson(c, nameOf(c), feed, unsubscribe);
}

function showLogs(c: Context, services: ServiceManager, name: string): Response {
  const { lines, duration } = readQuery(c, logsQuery, "read the log");
  const followMs = milliseconds(duration, 0);
  const feed = new EventFeed();
  const { blocks, unsubscribe } = services.logs(name, lines === undefined ? undefined : Number(lines), feed.push);
  endAfter(feed, followMs, c.req.raw.signal);
  async function* all(): AsyncGenerator<ServiceEvent> {
    for await (const { stream: type, text, timeMs } of blocks) yield { type, data: text.toString("utf8"), timestamp: timeMs };
    if (followMs > 0) yield* feed;
  }
  return ndjson(c, name, all(), unsubscribe);
}

function endAfter(feed: EventFeed, ms: number, gone: AbortSignal): void {
  const timer = setTimeout(() => feed.end(), ms);
  const end = () => {
    clearTimeout(timer);
    feed.end();
  };
  if (gone.aborted) end();
  else gone.addEventListener("abort", end, { once: true });
}

/** One JSON object per line, read from `events` only as fast as the client takes them, with `complete` at the end. */
function ndjson(c: Context, name: string, events: AsyncIterable<ServiceEvent>, cleanUp: () => void): Response {
  c.header("Content-Type", "application/x-ndjson");
  c.header("Cache-Control", "no-store");
  return stream(c, async (out) => {
    try {
      for await (const event of events) {
        if (out.aborted) return;
        await out.write(`${JSON.stringify(event)}\n`);
      }
      const file = `/.sprite/logs/services/${name}.log`;
      const log_files = { combined: file, stdout: file, stderr: file };
      await out.write(`${JSON.stringify({ type: "complete", log_files, timestamp: Date.now() } satisfies ServiceEvent)}\n`);
    } finally {
      cleanUp();
    }
  });
}
