import { checkpointRoutes } from "./checkpoints.ts";
import { daemonRoutes } from "./daemon.ts";
import { execRoutes } from "./exec.ts";
import { filesRoutes } from "./files.ts";
import { historyRoutes } from "./history.ts";
import { policyRoutes } from "./policies.ts";
import { portsRoutes } from "./ports.ts";
import type { RouteDescription } from "./route.ts";
import { servicesRoutes } from "./services.ts";
import { spritesRoutes } from "./sprites.ts";
import { storageRoutes } from "./storage.ts";
import { tasksRoutes } from "./tasks.ts";

export { type OpenApiDocument, openApiDocument } from "./openapi.ts";
export type { BodyDescription, RouteDescription } from "./route.ts";

/** Every route of the public API, family by family: what documents, conformance table and tests are made from. */
export const API_ROUTES: readonly RouteDescription[] = [
  ...spritesRoutes,
  ...execRoutes,
  ...filesRoutes,
  ...checkpointRoutes,
  ...storageRoutes,
  ...historyRoutes,
  ...portsRoutes,
  ...policyRoutes,
  ...servicesRoutes,
  ...tasksRoutes,
  ...daemonRoutes,
];

/** Routes of the API that the SDKs know of, and that are not offered. */
export const ROUTES_NOT_OFFERED: readonly { method: string; path: string; reason: string }[] = [
  {
    method: "GET",
    path: "/v1/sprites/{name}/control",
    reason: "Answered with 404 on purpose: every SDK then opens one WebSocket for each command, which is simpler and loses nothing.",
  },
  {
    method: "GET",
    path: "/v1/oauth/connections",
    reason: "Connectors lend out accounts of a hosted service; no SDK uses them. A sprite can be given its own credentials.",
  },
  { method: "POST", path: "/v1/oauth/connections/api_key", reason: "as above" },
  { method: "POST", path: "/v1/oauth/connections/provision", reason: "as above" },
  { method: "GET", path: "/v1/oauth/{provider}/authorize", reason: "as above" },
  { method: "POST", path: "/v1/oauth/{provider}/callback", reason: "as above" },
  { method: "GET", path: "/v1/gateway/{provider}/{id}/{path}", reason: "as above" },
];
