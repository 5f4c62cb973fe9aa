import { createTokenRequest, HobError } from "@hob/protocol";
import type { Hono } from "hono";
import type { TokenRegistry } from "../registry/registry.ts";
import type { Authenticator } from "../tokens/authenticator.ts";
import { ORGANIZATION } from "../tokens/token-format.ts";
import { createToken } from "../tokens/tokens.ts";
import { readJsonBody } from "./json-body.ts";
import { type Env, methodNotAllowed } from "./routes.ts";
import type { SpriteContext } from "./sprite-context.ts";

export interface TokenParts {
  context: SpriteContext;
  authenticator: Authenticator;
  tokens: TokenRegistry;
}

/** Makes tokens for who has one. The SDKs send theirs as `FlyV1 TOKEN`; both schemes are taken here. */
export function addTokens(app: Hono<Env>, { authenticator, tokens, context }: TokenParts): void {
  app.post("/v1/organizations/:organization/tokens", async (c) => {
    await authenticator.authenticate(c.req.header("authorization")?.replace(/^flyv1 /i, "Bearer "));
    const organization = c.req.param("organization");
    if (organization !== ORGANIZATION) {
      throw new HobError("not_found", `create token: no organization ${JSON.stringify(organization.slice(0, 80))}`, {
        hint: `the one organization here is '${ORGANIZATION}'`,
      });
    }
    const { description } = await readJsonBody(c.env.incoming, createTokenRequest, "create token");
    const { token, id } = await createToken(tokens, description?.trim() || "made over the API", context.now);
    context.log.info({ tokenId: id }, "made a token");
    return c.json({ token }, 201);
  });
  app.all("/v1/organizations/:organization/tokens", methodNotAllowed("POST"));
}
