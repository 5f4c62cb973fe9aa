import type { BounceResponse } from "@hob/protocol";
import { Hono } from "hono";
import type { InnerContainer } from "./container.ts";

/** `POST /bounce`: stops the inner container and starts it anew. @param uptimeMs of the kernel, which goes on */
export function bounceRoutes(container: InnerContainer, uptimeMs: () => Promise<number>): Hono {
  const app = new Hono();
  app.post("/bounce", async (c) => {
    const start = performance.now();
    const steps = await container.bounce();
    const answer: BounceResponse = {
      totalMs: Math.round(performance.now() - start),
      steps,
      uptimeMs: await uptimeMs(),
      pilotPid: process.pid,
    };
    return c.json(answer);
  });
  return app;
}
