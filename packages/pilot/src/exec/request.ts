import { HobError, LIMITS } from "@hob/protocol";
import { z } from "zod";
import { SPRITE_USER } from "../container/ids.ts";
import { DEFAULT_PATH } from "../container/spec.ts";
import type { ExecSpec, WindowSize } from "../helper/index.ts";
import { parseDurationMs } from "./duration.ts";

const DEFAULT_WINDOW: WindowSize = { cols: 80, rows: 24 };

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

const query = z.object({
  cmd: z.array(word).default([]),
  path: word.min(1, "a program expected").optional(),
  env: z.array(word.regex(/^[^=]+=/, "NAME=VALUE expected")).default([]),
  dir: absolutePath.optional(),
  tty: flag.default(false),
  stdin: flag.optional(),
  cols: size.optional(),
  rows: size.optional(),
  max_run_after_disconnect: duration.optional(),
});

/** Parameters that may be given more than once; of all others, the first counts. */
const REPEATED: ReadonlySet<string> = new Set(["cmd", "env"]);

export interface ExecRequest {
  readonly argv: readonly string[];
  /** executable, looked up in PATH if it has no slash */
  readonly file: string;
  /** variables over the default environment */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** absent = no terminal */
  readonly tty: WindowSize | undefined;
  /** false: input and end of input from the client are ignored */
  readonly stdin: boolean;
  /** milliseconds a session outlives its client; 0 = no limit */
  readonly maxRunAfterDisconnectMs: number;
}

/**
 * Reads the query of an exec. Unknown parameters (`cc`, `detachable`, `session_id`, …) are ignored, as clients send some
 * without meaning.
 * @throws HobError `invalid_request`; its message names the parameter, never a value: values may be secrets
 */
export function parseExecRequest(parameters: URLSearchParams): ExecRequest {
  const parsed = query.safeParse(collect(parameters));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new HobError("invalid_request", `exec: parameter ${String(issue?.path[0] ?? "")}: ${issue?.message ?? "malformed"}`);
  }
  const { env, dir, tty, stdin, cols, rows, max_run_after_disconnect } = parsed.data;
  return {
    ...program(parsed.data.cmd, parsed.data.path),
    env: Object.fromEntries(env.map(splitVariable)),
    cwd: dir ?? SPRITE_USER.home,
    tty: tty ? { cols: cols || DEFAULT_WINDOW.cols, rows: rows || DEFAULT_WINDOW.rows } : undefined,
    stdin: stdin ?? tty,
    maxRunAfterDisconnectMs: max_run_after_disconnect ?? (tty ? 0 : 10_000),
  };
}

function collect(parameters: URLSearchParams): Record<string, string | string[]> {
  const raw: Record<string, string | string[]> = {};
  for (const name of Object.keys(query.shape)) {
    if (!parameters.has(name)) continue;
    raw[name] = REPEATED.has(name) ? parameters.getAll(name) : (parameters.get(name) ?? "");
  }
  return raw;
}

/** `path` is what runs, `cmd` what it is told. Neither: the login shell, which a leading '-' in argv[0] makes it, see bash(1). */
function program(cmd: readonly string[], path: string | undefined): Pick<ExecRequest, "argv" | "file"> {
  const [first] = cmd;
  if (first !== undefined) return { argv: cmd, file: path ?? first };
  return path === undefined ? { argv: ["-bash"], file: SPRITE_USER.shell } : { argv: [path], file: path };
}

function splitVariable(text: string): [name: string, value: string] {
  const at = text.indexOf("=");
  return [text.slice(0, at), text.slice(at + 1)];
}

/** The environment of every command, before what the sprite and the request add. */
export function defaultEnvironment(tty: boolean): Record<string, string> {
  return {
    PATH: DEFAULT_PATH,
    HOME: SPRITE_USER.home,
    USER: SPRITE_USER.name,
    LOGNAME: SPRITE_USER.name,
    SHELL: SPRITE_USER.shell,
    LANG: "C.UTF-8",
    ...(tty ? { TERM: "xterm-256color" } : {}),
  };
}

/** @param spriteEnvironment variables that the sprite was created with */
export function toExecSpec(request: ExecRequest, spriteEnvironment: Readonly<Record<string, string>>): Omit<ExecSpec, "target"> {
  return {
    argv: request.argv,
    file: request.file,
    env: { ...defaultEnvironment(request.tty !== undefined), ...spriteEnvironment, ...request.env },
    cwd: request.cwd,
    uid: SPRITE_USER.uid,
    gid: SPRITE_USER.gid,
    user: SPRITE_USER.name,
    ...(request.tty === undefined ? {} : { tty: request.tty }),
  };
}

const EXEC_PATH = /^\/v1\/sprites\/[^/]+\/(exec|control)$/;

/** Which of the two routes a request target names, and its query; undefined for any other. */
export function matchExecRoute(target: string): { route: "exec" | "control"; parameters: URLSearchParams } | undefined {
  const at = target.indexOf("?");
  const path = at < 0 ? target : target.slice(0, at);
  const route = EXEC_PATH.exec(path)?.[1];
  if (route !== "exec" && route !== "control") return undefined;
  if (target.length > LIMITS.requestTargetBytes) {
    throw new HobError("invalid_request", `exec: the request target is longer than ${LIMITS.requestTargetBytes} bytes`);
  }
  return { route, parameters: new URLSearchParams(at < 0 ? "" : target.slice(at + 1)) };
}
