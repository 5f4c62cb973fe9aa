import type { IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import type { FileEntry, FileList, FileWritten } from "@hob/protocol/api/files.ts";
import { type ErrorCode, HobError } from "@hob/protocol/errors.ts";
import { exchangeBytes, textOf } from "./byte-stream.ts";
import { type CallOptions, callJson, type Endpoint, type Method } from "./http.ts";

export interface FileOptions {
  /** folder that relative paths begin in; default: the home of the sprite's user */
  workingDir?: string | undefined;
  asRoot?: boolean | undefined;
}

export interface ReadOptions extends FileOptions {
  signal?: AbortSignal | undefined;
}

export interface WriteOptions extends FileOptions {
  /** permissions, 0 to 0o7777; default: those of the present file, else 0644 */
  mode?: number | undefined;
  /** make missing directories above */
  parents?: boolean | undefined;
}

/** Operations on trees take as long as the trees are large; silence of the network is bounded elsewhere. */
const OPERATION_TIMEOUT_MS = 600_000;
/** Longest silence of a connection that carries a file; a sleeping sprite is woken in it. */
const SILENCE_MS_MAX = 120_000;

/** What the errno of a refused operation means in the catalogue. */
const CODE_OF_ERRNO: Readonly<Record<string, ErrorCode>> = {
  ENOENT: "not_found",
  EEXIST: "conflict",
  ENOTEMPTY: "conflict",
  EACCES: "permission_denied",
  EPERM: "permission_denied",
  EISDIR: "invalid_request",
  ENOTDIR: "invalid_request",
  EINVAL: "invalid_request",
};

type Parameters = Record<string, string | number | boolean | undefined>;

/** The files of one sprite. Every method throws HobError; the errno of the sprite's kernel is in `details.code`. */
export class SpriteFiles {
  readonly #endpoint: Endpoint;
  readonly #path: string;

  /** @internal use HobClient.files */
  constructor(endpoint: Endpoint, path: string) {
    this.#endpoint = endpoint;
    this.#path = path;
  }

  /** Content of a file, to be read to its end or destroyed. One that is cut off ends with an error. */
  async read(path: string, options: ReadOptions = {}): Promise<Readable> {
    return this.#stream("GET", "read", common(path, options), undefined, options.signal);
  }

  /** Writes a file; it is seen under its name when all of it is there. */
  async write(path: string, content: Readable | Uint8Array, options: WriteOptions = {}): Promise<FileWritten> {
    const query = { ...common(path, options), large: true, mkdirParents: options.parents, mode: options.mode?.toString(8) };
    const answer = await this.#stream("PUT", "write", query, content, undefined);
    return JSON.parse(await textOf(answer)) as FileWritten;
  }

  /** What is in a directory; a file gives itself. @param options.pattern glob */
  async list(path: string, options: FileOptions & { recursive?: boolean; pattern?: string } = {}): Promise<FileEntry[]> {
    const query = { ...common(path, options), recursive: options.recursive, pattern: options.pattern };
    return (await this.#json<FileList>("GET", "list", { query: textual(query) })).entries;
  }

  /** What is at a path, symbolic links followed. @throws HobError `not_found` */
  async stat(path: string, options: FileOptions = {}): Promise<FileEntry> {
    const query = textual({ ...common(path, options), stat: true });
    const [entry] = (await this.#json<FileList>("GET", "list", { query })).entries;
    if (entry === undefined) throw new HobError("bad_answer", `stat ${path}: the answer is empty`);
    return entry;
  }

  async makeDirectory(path: string, options: WriteOptions = {}): Promise<void> {
    await this.#post("mkdir", { ...common(path, options), mode: options.mode?.toString(8), recursive: options.parents });
  }

  /** @param target text of the link */
  async makeSymlink(target: string, path: string, options: FileOptions = {}): Promise<void> {
    await this.#post("symlink", { ...common(path, options), target });
  }

  async delete(path: string, options: FileOptions & { recursive?: boolean } = {}): Promise<{ count: number }> {
    return this.#json("DELETE", "delete", { query: textual({ ...common(path, options), recursive: options.recursive }) });
  }

  async rename(source: string, dest: string, options: FileOptions = {}): Promise<void> {
    await this.#post("rename", { ...common("", options), source, dest });
  }

  async copy(
    source: string,
    dest: string,
    options: FileOptions & { recursive?: boolean; preserveAttrs?: boolean } = {},
  ): Promise<{ count: number; totalBytes: number }> {
    const { recursive, preserveAttrs } = options;
    return this.#post("copy", { ...common("", options), source, dest, recursive, preserveAttrs });
  }

  async chmod(path: string, mode: number, options: FileOptions & { recursive?: boolean } = {}): Promise<{ count: number }> {
    return this.#post("chmod", { ...common(path, options), mode: mode.toString(8), recursive: options.recursive });
  }

  /** @param owner numbers are ids, text a name of the sprite's own */
  async chown(
    path: string,
    owner: { uid?: string | number; gid?: string | number },
    options: FileOptions & { recursive?: boolean } = {},
  ): Promise<{ count: number }> {
    return this.#post("chown", { ...common(path, options), ...owner, recursive: options.recursive });
  }

  #post<T>(operation: string, body: Parameters): Promise<T> {
    return this.#json("POST", operation, { body });
  }

  async #json<T>(method: Method, operation: string, options: Pick<CallOptions, "body" | "query">): Promise<T> {
    try {
      return await callJson<T>(this.#endpoint, method, `${this.#path}/${operation}`, { ...options, timeoutMs: OPERATION_TIMEOUT_MS });
    } catch (error) {
      throw fileError(error);
    }
  }

  /** One exchange whose bodies are streams. */
  async #stream(
    method: Method,
    operation: string,
    query: Parameters,
    body: Readable | Uint8Array | undefined,
    signal: AbortSignal | undefined,
  ): Promise<IncomingMessage> {
    const path = `${this.#path}/${operation}`;
    try {
      return await exchangeBytes(this.#endpoint, method, path, { query: textual(query), body, silenceMs: SILENCE_MS_MAX, signal });
    } catch (error) {
      throw fileError(error);
    }
  }
}

const common = (path: string, { workingDir, asRoot }: FileOptions): Parameters => ({
  ...(path === "" ? {} : { path }),
  workingDir,
  asRoot: asRoot === true ? true : undefined,
});

function textual(parameters: Parameters): Record<string, string | undefined> {
  const entries = Object.entries(parameters).map(([name, value]) => [name, value === undefined ? undefined : String(value)]);
  return Object.fromEntries(entries);
}

/** The status of a refused operation alone would say less than its errno, and 403 something else. */
function fileError(thrown: unknown): unknown {
  if (!(thrown instanceof HobError) || typeof thrown.details.code !== "string") return thrown;
  const code = CODE_OF_ERRNO[thrown.details.code];
  return code === undefined ? thrown : new HobError(code, thrown.message, { details: thrown.details, cause: thrown.cause });
}
