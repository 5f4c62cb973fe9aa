import { HOB_VERSION } from "@hob/protocol";
import { Hono } from "hono";
import type { Sprite } from "../sprite.ts";

/** `GET /info`: which sprite this is, for programs inside. */
export function infoRoutes(sprite: Pick<Sprite, "identity">): Hono {
  const app = new Hono();
  app.get("/info", (c) => {
    const { organization = "", id = "", name = "", url = "" } = sprite.identity ?? {};
    return c.json({ org: organization, sprite_id: id, sprite_name: name, sprite_url: url, version: HOB_VERSION });
  });
  return app;
}
