import type { StorageStatus } from "@hob/protocol";
import { Hono } from "hono";
import type { Durability } from "./durability.ts";

type Fetched = Pick<StorageStatus, "fetched_bytes" | "fetched_requests">;

/** `docs/api/storage.md` */
export function storageRoutes(durability: Durability, fetched: () => Fetched): Hono {
  const app = new Hono();
  const status = async (): Promise<StorageStatus> => ({ ...(await durability.status()), ...fetched() });
  app.get("/storage", async (c) => c.json(await status()));
  app.post("/sync", async (c) => {
    await durability.sync();
    return c.json(await status());
  });
  return app;
}
