import { createHash } from "node:crypto";
import { HOB_VERSION } from "@hob/protocol";
import { API_ROUTES, openApiDocument } from "@hob/protocol/api/index.ts";
import type { Hono } from "hono";
import { REFERENCE_PAGE, REFERENCE_SCRIPT, REFERENCE_STYLE } from "./reference-page.ts";
import { type Env, methodNotAllowed } from "./routes.ts";

const DAY_SECONDS = 24 * 60 * 60;

const hashOf = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

/** The API's description and a page that shows it. They hold nothing of this installation, so they need no token. */
export function addDocuments(app: Hono<Env>): void {
  let document: string | undefined;
  app.get("/openapi.json", (c) => {
    document ??= JSON.stringify(openApiDocument(API_ROUTES, HOB_VERSION));
    return c.body(document, 200, { "Content-Type": "application/json", "Cache-Control": `max-age=${DAY_SECONDS}` });
  });
  app.all("/openapi.json", methodNotAllowed("GET, HEAD"));
  app.get("/docs", (c) =>
    c.html(REFERENCE_PAGE, 200, {
      "Content-Security-Policy": `default-src 'none'; script-src ${hashOf(REFERENCE_SCRIPT)}; style-src ${hashOf(REFERENCE_STYLE)}; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
      "X-Content-Type-Options": "nosniff",
    }),
  );
  app.all("/docs", methodNotAllowed("GET, HEAD"));
}
