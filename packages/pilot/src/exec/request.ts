import { attachQuery, EXEC_REPEATED, execQuery, HobError, LIMITS } from "@hob/protocol";
import type { z } from "zod";
import { SPRITE_USER } from "../container/ids.ts";
import { DEFAULT_PATH } from "../container/spec.ts";
import type { ExecSpec, WindowSize } from "../helper/index.ts";

const DEFAULT_WINDOW: WindowSize = { cols: 80, rows: 24 };

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
 * Reads the query of an exec. Unknown parameters (`cc`, `session_id`, …) are ignored, as clients send some without
 * meaning.
 * @throws HobError `invalid_request`; its message names the parameter, never a value: values may be secrets
 */
export function parseExecRequest(parameters: URLSearchParams): ExecRequest {
  const parsed = parse("exec", execQuery, parameters, EXEC_REPEATED);
  const { env, dir, tty, stdin, cols, rows, detachable, max_run_after_disconnect } = parsed;
  return {
    ...program(parsed.cmd, parsed.path),
    env: Object.fromEntries(env.map(splitVariable)),
    cwd: dir ?? SPRITE_USER.home,
    tty: tty ? { cols: cols || DEFAULT_WINDOW.cols, rows: rows || DEFAULT_WINDOW.rows } : undefined,
    stdin: stdin ?? tty,
    maxRunAfterDisconnectMs: max_run_after_disconnect ?? (tty || detachable === true ? 0 : 10_000),
  };
}

export interface AttachRequest {
  /** undefined: as the session, a terminal takes input */
  readonly stdin: boolean | undefined;
  readonly size: WindowSize | undefined;
  /** undefined: the scrollback first */
  readonly outputOffset: number | undefined;
  readonly maxRunAfterDisconnectMs: number | undefined;
}

/** Reads the query of an attachment. @throws HobError `invalid_request` */
export function parseAttachRequest(parameters: URLSearchParams): AttachRequest {
  const { stdin, cols, rows, output_offset, max_run_after_disconnect } = parse("attach", attachQuery, parameters);
  return {
    stdin,
    size: cols && rows ? { cols, rows } : undefined,
    outputOffset: output_offset,
    maxRunAfterDisconnectMs: max_run_after_disconnect,
  };
}

/** Of a parameter that is given more than once the first counts, unless it is one of `repeated`. */
function parse<T extends z.ZodObject>(
  what: string,
  schema: T,
  parameters: URLSearchParams,
  repeated: ReadonlySet<string> = new Set(),
): z.output<T> {
  const raw: Record<string, string | string[]> = {};
  for (const name of Object.keys(schema.shape)) {
    if (!parameters.has(name)) continue;
    raw[name] = repeated.has(name) ? parameters.getAll(name) : (parameters.get(name) ?? "");
  }
  const parsed = schema.safeParse(raw);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new HobError("invalid_request", `${what}: parameter ${String(issue?.path[0] ?? "")}: ${issue?.message ?? "malformed"}`);
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

const EXEC_PATH = /^\/v1\/sprites\/[^/]+\/(?:(exec)(?:\/([^/]+))?|(control))$/;

export interface ExecRoute {
  readonly route: "exec" | "control";
  /** of the session to attach to; undefined for a new one */
  readonly sessionId: string | undefined;
  readonly parameters: URLSearchParams;
}

/** What a request target names of `…/exec`, `…/exec/ID`, `…/exec?id=ID` and `…/control`; undefined for any other. */
export function matchExecRoute(target: string): ExecRoute | undefined {
  const at = target.indexOf("?");
  const match = EXEC_PATH.exec(at < 0 ? target : target.slice(0, at));
  if (match === null) return undefined;
  if (target.length > LIMITS.requestTargetBytes) {
    throw new HobError("invalid_request", `exec: the request target is longer than ${LIMITS.requestTargetBytes} bytes`);
  }
  const [, exec, id] = match;
  const parameters = new URLSearchParams(at < 0 ? "" : target.slice(at + 1));
  return { route: exec === undefined ? "control" : "exec", sessionId: id ?? (parameters.get("id") || undefined), parameters };
}
