import { HobError } from "@hob/protocol";
import type { HttpBindings } from "@hono/node-server";
import type { Context } from "hono";
import { ClientGone } from "./client-gone.ts";

/** What the routes of the host share. */
export type Env = {
  Bindings: HttpBindings;
  Variables: {
    /** the token that the request came with */
    tokenId: string;
  };
};

export const methodNotAllowed = (allow: string) => (c: Context<Env>) => {
  const error = new HobError("method_not_allowed", `${c.req.method} ${c.req.path.slice(0, 200)}: not a method of this route`, {
    hint: `use one of ${allow}`,
  });
  return c.json(error.toBody(), 405, { Allow: allow });
};

/** Aborted with `ClientGone` when the client's connection closes before its answer is complete. */
export function clientGone(c: Context<Env>): AbortSignal {
  const controller = new AbortController();
  c.env.outgoing.once("close", () => controller.abort(new ClientGone()));
  return controller.signal;
}
