import { HobError, logsPullRequest, PILOT_ROUTES } from "@hob/protocol";
import { Hono } from "hono";
import type { LogDirectory } from "../logs/log-directory.ts";

/** Lines that belong together are given together: a pull waits this long after the first one. */
const GATHER_MS = 250;

/** `POST /hob/logs`: what services wrote since a cursor. The host pulls as fast as its sink takes it; nothing waits here but the files. */
export function logRoutes(logs: Pick<LogDirectory, "readSince" | "somethingNew">): Hono {
  const app = new Hono();
  app.post(PILOT_ROUTES.logs, async (c) => {
    const parsed = logsPullRequest.safeParse(await c.req.json().catch(() => undefined));
    if (!parsed.success) throw new HobError("invalid_request", `logs: ${parsed.error.issues[0]?.message ?? "not JSON"}`);
    const { cursor, waitMs } = parsed.data;
    const never = new AbortController();
    // Before the first look, so that nothing falls between the two.
    const news = logs.somethingNew(waitMs, c.req.raw.signal);
    const now = await logs.readSince(cursor);
    if (now.blocks.length > 0) return c.json(now);
    await news;
    if (waitMs > 0) await logs.somethingNew(GATHER_MS, never.signal);
    return c.json(await logs.readSince(cursor));
  });
  return app;
}
