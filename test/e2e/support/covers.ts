/**
 * Says which routes of the API a test exercises, as `METHOD /path/with/{parameters}`, and WSS for an upgrade to a
 * WebSocket. It does nothing: `npm run docs` reads these calls from the source for docs/conformance.md, and a test
 * fails where a route has none.
 */
export function covers(..._routes: readonly `${"GET" | "HEAD" | "PUT" | "POST" | "DELETE" | "WSS"} /${string}`[]): void {}
