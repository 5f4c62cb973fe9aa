import type { UrlTicket } from "@hob/protocol";
import type { Hono } from "hono";
import { signInUrl } from "../ingress/own-routes.ts";
import type { SignIn } from "../ingress/sign-in.ts";
import type { Authenticator } from "../tokens/authenticator.ts";
import type { Env } from "./routes.ts";
import { requireSprite, type SpriteContext } from "./sprite-context.ts";

export interface UrlTicketParts {
  context: SpriteContext;
  authenticator: Authenticator;
  signIn: SignIn;
}

/** `POST /v1/sprites/NAME/url/ticket`: a link for a browser, which cannot send a token. It works once, and soon. */
export function addUrlTicket(app: Hono<Env>, { context, authenticator, signIn }: UrlTicketParts): void {
  app.post("/v1/sprites/:name/url/ticket", async (c) => {
    const { tokenId } = await authenticator.authenticate(c.req.header("authorization"));
    const record = await requireSprite(context.sprites, c.req.param("name"));
    const { ticket, expiresAt } = signIn.issue(record.id, tokenId);
    const answer: UrlTicket = { url: signInUrl(context.urlOf(record.name), ticket), expires_at: new Date(expiresAt).toISOString() };
    return c.json(answer, 201, { "Cache-Control": "no-store" });
  });
}
