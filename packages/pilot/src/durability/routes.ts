import { Hono } from "hono";
import type { Durability } from "./durability.ts";

/** `docs/api/storage.md` */
export function storageRoutes(durability: Durability): Hono {
  const app = new Hono();
  app.get("/storage", async (c) => c.json(await durability.status()));
  app.post("/sync", async (c) => {
    await durability.sync();
    return c.json(await durability.status());
  });
  return app;
}
