import type { StorageStatus } from "@hob/protocol";
import { Hono } from "hono";
import type { Durability } from "./durability.ts";

/** `docs/api/storage.md` */
export function storageRoutes(durability: Durability, status: () => Promise<StorageStatus>): Hono {
  const app = new Hono();
  app.get("/storage", async (c) => c.json(await status()));
  app.post("/sync", async (c) => {
    await durability.sync();
    return c.json(await status());
  });
  return app;
}
