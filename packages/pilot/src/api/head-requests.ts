import type { Context } from "hono";

/**
 * Middleware. Hono answers HEAD with what GET answers without its body, which nobody reads then: what makes it would wait for
 * its reader for good, and keep what it holds.
 */
export async function endBodyOfHead(c: Context, next: () => Promise<void>): Promise<void> {
  await next();
  if (c.req.method === "HEAD") await c.res.body?.cancel();
}
