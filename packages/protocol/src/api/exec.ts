import { z } from "zod";
import { parseDurationMs } from "../duration.ts";
import type { RouteDescription } from "./route.ts";

const flag = z.enum(["true", "false", "1", "0", ""], "true or false expected").transform((text) => text === "true" || text === "1");
const size = z
  .string()
  .regex(/^\d{1,5}$/, "a number expected")
  .transform(Number)
  .refine((number) => number <= 65_535, "at most 65535");
const duration = z.string().transform((text, context) => {
  const ms = parseDurationMs(text);
  if (ms !== undefined) return ms;
  context.addIssue({ code: "custom", message: "a duration such as 10s or 1m30s expected" });
  return z.NEVER;
});
const word = z.string().refine((text) => !text.includes("\0"), "a NUL character is not possible");
const absolutePath = word.refine((text) => text.startsWith("/"), "an absolute path expected");

/** What of a command and of an attachment is asked in the same way. */
const client = {
  /** whether input is taken from this client */
  stdin: flag.optional(),
  cols: size.optional(),
  rows: size.optional(),
  /** how long the session lives on without a client; 0 = without limit */
  max_run_after_disconnect: duration.optional(),
};

/** `cmd` and `env` may be given more than once; of all others, the first counts. Durations are milliseconds when read. */
export const execQuery = z.object({
  ...client,
  cmd: z.array(word).default([]),
  path: word.min(1, "a program expected").optional(),
  env: z.array(word.regex(/^[^=]+=/, "NAME=VALUE expected")).default([]),
  dir: absolutePath.optional(),
  tty: flag.default(false),
  detachable: flag.optional(),
});

/** Parameters of an exec that may be given more than once. */
export const EXEC_REPEATED: ReadonlySet<string> = new Set(["cmd", "env"]);

export const attachQuery = z.object({
  ...client,
  /** bytes of output that the client has already: it gets what follows them */
  output_offset: z
    .string()
    .regex(/^\d{1,15}$/, "a number of bytes expected")
    .transform(Number)
    .optional(),
});

/** How long a kill may wait: its answer is open so long. */
const KILL_TIMEOUT_MS_MAX = 3_600_000;

const killTimeout = z
  .union([z.string(), z.number().min(0)])
  .transform(String)
  .transform((text, context) => {
    const ms = parseDurationMs(text);
    if (ms !== undefined && ms <= KILL_TIMEOUT_MS_MAX) return { ms, text: /^[\d.]+$/.test(text) ? `${text}s` : text };
    context.addIssue({ code: "custom", message: "a duration such as 10s, at most 1h, expected" });
    return z.NEVER;
  });

/** In the query or as a JSON body; the query counts where both are there. */
export const killRequest = z.object({
  /** a name with or without SIG, or a number; default SIGTERM */
  signal: z
    .union([z.string().max(16), z.number().int()])
    .transform(String)
    .optional(),
  /** until SIGKILL follows, default 10s; 0 only delivers the signal */
  timeout: killTimeout.optional(),
});

export const sessionItem = z.object({
  id: z.string(),
  created: z.string(),
  command: z.string(),
  workdir: z.string(),
  tty: z.boolean(),
  /** of output, over the last seconds */
  bytes_per_second: z.number(),
  /** whether a client is attached */
  is_active: z.boolean(),
  last_activity: z.string(),
});
export type SessionItem = z.infer<typeof sessionItem>;

export const sessionList = z.object({ count: z.number().int(), sessions: z.array(sessionItem) });
export type SessionList = z.infer<typeof sessionList>;

export const killEvent = z.discriminatedUnion("type", [
  z.object({ type: z.literal("signal"), message: z.string(), signal: z.string(), pid: z.number().int() }),
  z.object({ type: z.enum(["timeout", "exited", "killed", "error"]), message: z.string() }),
  /** `exit_code` is missing when the process still runs */
  z.object({ type: z.literal("complete"), exit_code: z.number().int().optional() }),
]);
export type KillEvent = z.infer<typeof killEvent>;

const family = "Sessions";
const docs = "docs/api/exec.md";
const EXEC = "/v1/sprites/{name}/exec";
const bad = { 400: { summary: "a parameter is malformed" } };
const unknown = { 404: { summary: "no such session" } };
const notStarted = {
  500: { summary: "the process could not be set up" },
  503: { summary: "the sprite's container does not run at this moment" },
};

export const execRoutes: readonly RouteDescription[] = [
  {
    method: "GET",
    path: EXEC,
    family,
    summary:
      "With an upgrade: runs a command, whose input and output are frames of the WebSocket; with the parameter id, attaches to that session. Without: lists the sessions that run.",
    webSocket: { docs },
    query: execQuery.extend({ id: z.string().optional() }),
    answers: {
      101: { summary: "the process is there, or the client attached" },
      200: { summary: "the sessions", body: { json: sessionList } },
      ...bad,
      ...unknown,
      ...notStarted,
    },
  },
  {
    method: "HEAD",
    path: EXEC,
    family,
    summary: "Tells the version, in the header Sprite-Version.",
    answers: { 200: { summary: "nothing but headers" } },
  },
  {
    method: "POST",
    path: EXEC,
    family,
    summary: "Runs a command without a WebSocket; each HTTP chunk of the answer is one frame.",
    query: execQuery,
    body: { bytes: "application/octet-stream" },
    answers: {
      200: { summary: "the frames", body: { bytes: "application/octet-stream" } },
      ...bad,
      413: { summary: "the input is longer than 10 MiB" },
      ...notStarted,
    },
  },
  {
    method: "GET",
    path: `${EXEC}/{session_id}`,
    family,
    summary: "Attaches to a session: its output so far, or from an offset on, then what follows.",
    webSocket: { docs },
    query: attachQuery,
    answers: { 101: { summary: "attached" }, ...bad, ...unknown },
  },
  {
    method: "POST",
    path: `${EXEC}/{session_id}/kill`,
    family,
    summary: "Sends a signal to a session, and SIGKILL if it has not ended in time.",
    query: killRequest,
    body: { json: killRequest },
    answers: {
      200: { summary: "what happens, as it happens", body: { ndjson: killEvent } },
      ...bad,
      ...unknown,
      410: { summary: "the session has already ended" },
    },
  },
];
