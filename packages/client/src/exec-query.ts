import type { ResumeOptions } from "./resume.ts";

export interface TtySize {
  cols: number;
  rows: number;
}

/** What commands and attachments have in common. */
export interface ConnectOptions {
  /** whether `stdin` will be used; without it the command reads an empty input */
  stdin?: boolean;
  /** how long the session lives on without a client, such as `60s`; 0 = without limit; default: 10s, on a terminal 0 */
  maxRunAfterDisconnect?: string | undefined;
  /** bound on connecting, including the time a sleeping sprite takes to wake; default 60 s */
  connectTimeoutMs?: number;
  /** come back when the connection breaks; without it a broken connection ends the session for this client */
  resume?: ResumeOptions | undefined;
}

export interface ExecOptions extends ConnectOptions {
  /** program and arguments; empty means the server's default, a login shell */
  command: readonly string[];
  /** working directory inside the sprite; default: the user's home */
  dir?: string | undefined;
  /** added to the sprite's environment */
  env?: Readonly<Record<string, string>> | undefined;
  /** run on a pseudo-terminal of this size: stdout and stderr are then one raw stream */
  tty?: TtySize | undefined;
}

export interface AttachOptions extends ConnectOptions {
  /** bytes of output that are known already; without it the scrollback comes first */
  outputOffset?: number | undefined;
  /** size that a terminal gets; its program draws its screen anew */
  size?: TtySize | undefined;
}

export function execQuery(options: ExecOptions): URLSearchParams {
  const query = new URLSearchParams();
  for (const argument of options.command) query.append("cmd", argument);
  if (options.command[0] !== undefined) query.append("path", options.command[0]);
  query.append("stdin", options.stdin === true ? "true" : "false");
  if (options.tty !== undefined) {
    query.append("tty", "true");
    addSize(query, options.tty);
  }
  if (options.dir !== undefined) query.append("dir", options.dir);
  if (options.maxRunAfterDisconnect !== undefined) query.append("max_run_after_disconnect", options.maxRunAfterDisconnect);
  for (const [key, value] of Object.entries(options.env ?? {})) query.append("env", `${key}=${value}`);
  return query;
}

export function attachQuery(options: AttachOptions): URLSearchParams {
  const query = new URLSearchParams({ stdin: options.stdin === true ? "true" : "false" });
  if (options.size !== undefined) addSize(query, options.size);
  if (options.outputOffset !== undefined) query.append("output_offset", String(options.outputOffset));
  if (options.maxRunAfterDisconnect !== undefined) query.append("max_run_after_disconnect", options.maxRunAfterDisconnect);
  return query;
}

function addSize(query: URLSearchParams, size: TtySize): void {
  query.append("cols", String(size.cols));
  query.append("rows", String(size.rows));
}
