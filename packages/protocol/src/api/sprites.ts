import { z } from "zod";
import {
  createSpriteRequest,
  createTokenAnswer,
  createTokenRequest,
  sleepAnswer,
  sleepRequest,
  sprite,
  spriteActivity,
  spriteCheck,
  spriteList,
  spriteRestarted,
  spriteWatchLine,
  updateSpriteRequest,
} from "../sprites.ts";
import type { RouteDescription } from "./route.ts";

const family = "Sprites";

const BAD_REQUEST = { 400: { summary: "a parameter, the body or the name is malformed" } } as const;
const NO_ROOM = {
  429: { summary: "no room for one more running sprite, and none that is idle; `Retry-After` says when to try again" },
} as const;
const VM_FAILED = { 502: { summary: "the VM did not start" }, 504: { summary: "a bounded wait ran out" } } as const;

/** Query of a list, for documents; `list-sprites.ts` of the daemon reads it. */
const listQuery = z.object({
  prefix: z.string().max(63).optional().describe("only names that begin with this"),
  max_results: z.number().int().min(1).max(500).optional().describe("sprites in one page; 50 if not given"),
  continuation_token: z.string().max(128).optional().describe("next_continuation_token of the page before"),
});

export const spritesRoutes: readonly RouteDescription[] = [
  {
    method: "GET",
    path: "/v1/sprites",
    family,
    summary: "Lists sprites, sorted by name.",
    query: listQuery,
    answers: { 200: { summary: "one page", body: { json: spriteList } }, ...BAD_REQUEST },
  },
  {
    method: "GET",
    path: "/v1/sprites",
    family,
    summary: "With `Accept: application/x-ndjson`: all sprites and then every change, one object a line, without an end.",
    query: listQuery,
    answers: { 200: { summary: "lines", body: { ndjson: spriteWatchLine } }, ...BAD_REQUEST },
  },
  {
    method: "POST",
    path: "/v1/sprites",
    family,
    summary: "Makes a sprite; answers when it runs. With an `Idempotency-Key` the same request makes one sprite however often it is sent.",
    body: { json: createSpriteRequest },
    answers: {
      201: { summary: "the sprite", body: { json: sprite } },
      400: { summary: "body or name is malformed, the name is taken, or the Idempotency-Key came with another request" },
      409: { summary: "the sprite that this Idempotency-Key made was destroyed since" },
      413: { summary: "the body is too large" },
      429: {
        summary:
          "`sprite_creation_rate_limited`, or `concurrent_sprite_limit_exceeded`: no room, and no sprite that is idle; with `Retry-After` and `X-RateLimit-Limit`, `-Remaining`, `-Reset`",
      },
      ...VM_FAILED,
      507: { summary: "the disk is full" },
    },
  },
  {
    method: "GET",
    path: "/v1/sprites/{name}",
    family,
    summary: "Shows one sprite; does not wake it.",
    answers: { 200: { summary: "the sprite", body: { json: sprite } } },
  },
  {
    method: "PUT",
    path: "/v1/sprites/{name}",
    family,
    summary: "Changes labels, settings of the URL and the idle time. What is left out stays; `labels` replaces the whole set.",
    body: { json: updateSpriteRequest },
    answers: { 200: { summary: "the sprite", body: { json: sprite } }, ...BAD_REQUEST, 413: { summary: "the body is too large" } },
  },
  {
    method: "DELETE",
    path: "/v1/sprites/{name}",
    family,
    summary: "Removes a sprite and all it holds, for good. Its name is free at once.",
    answers: { 204: { summary: "it is gone" }, 409: { summary: "it is still being created" } },
  },
  {
    method: "GET",
    path: "/v1/sprites/{name}/check",
    family,
    summary: "Asks a running sprite's platform whether it is well. Neither wakes a sprite nor keeps it awake.",
    answers: { 200: { summary: "the verdict", body: { json: spriteCheck } } },
  },
  {
    method: "POST",
    path: "/v1/sprites/{name}/restart",
    family,
    summary:
      "Shuts the sprite's machine down in good order and boots it from its disk. Files stay, processes do not, services are started anew.",
    answers: { 200: { summary: "it runs again", body: { json: spriteRestarted } }, ...NO_ROOM, ...VM_FAILED },
  },
  {
    method: "POST",
    path: "/v1/sprites/{name}/upgrade",
    family,
    summary: "Moves the sprite to the newest images, restarting it if it runs on older ones. Files stay.",
    answers: { 204: { summary: "it is on the newest images, also if there was nothing to do" }, ...NO_ROOM, ...VM_FAILED },
  },
  {
    method: "GET",
    path: "/v1/sprites/{name}/activity",
    family,
    extension: true,
    summary: "Says what keeps the sprite awake, since when it is idle, when it will sleep and why it woke last. Does not wake it.",
    answers: { 200: { summary: "why it is awake", body: { json: spriteActivity } } },
  },
  {
    method: "POST",
    path: "/v1/sprites/{name}/sleep",
    family,
    extension: true,
    summary:
      "Puts the sprite to sleep now. With `force` also when something holds it: open connections are cut, processes go on after the wake.",
    body: { json: sleepRequest },
    answers: { 200: { summary: "it sleeps", body: { json: sleepAnswer } }, ...BAD_REQUEST, 409: { summary: "something holds it awake" } },
  },
  {
    method: "POST",
    path: "/v1/organizations/{organization}/tokens",
    family: "Tokens",
    summary: "Makes a token. It is shown this once.",
    body: { json: createTokenRequest },
    answers: { 201: { summary: "the token", body: { json: createTokenAnswer } }, ...BAD_REQUEST },
  },
];
