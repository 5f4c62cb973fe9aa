import type { IncomingMessage, ServerResponse } from "node:http";
import type { ErrorCode, HobError } from "@hob/protocol";
import { errorHeaders } from "../api/error-answer.ts";

const TITLES: Partial<Record<ErrorCode, string>> = {
  unauthorized: "Sign in to see this sprite",
  not_found: "There is no such sprite",
  nothing_listens: "Nothing answers in this sprite yet",
  app_failed: "The server in this sprite did not answer",
  concurrent_sprite_limit_exceeded: "No room to wake this sprite",
};

/** Answers in place of the application: a page for browsers, JSON for all others. Nothing happens when the answer has begun. */
export function sendErrorPage(request: IncomingMessage, response: ServerResponse, error: HobError): void {
  if (response.headersSent || response.destroyed) return;
  const isPage = /\btext\/html\b/i.test(request.headers.accept ?? "");
  const body = isPage ? page(error) : JSON.stringify(error.toBody());
  response.writeHead(error.status, {
    ...errorHeaders(error),
    "Content-Type": isPage ? "text/html; charset=utf-8" : "application/json",
    "Content-Length": Buffer.byteLength(body),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    ...(isPage ? { "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'" } : {}),
    // Tells this answer from one of the application with the same status.
    "Hob-Error": error.code,
  });
  response.end(body);
}

function page(error: HobError): string {
  const title = escapeHtml(TITLES[error.code] ?? "This sprite cannot be reached");
  const hint = error.hint === undefined ? "" : `<p>${escapeHtml(error.hint)}.</p>`;
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.4rem}small{color:#666}@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}}</style>
<h1>${title}</h1>
<p>${escapeHtml(error.message)}.</p>${hint}
<p><small>${error.status} ${error.code}</small></p></html>
`;
}

const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
