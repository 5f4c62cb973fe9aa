import type { Readable } from "node:stream";
import type { Checkpoint, CheckpointEvent } from "@hob/protocol/api/checkpoints.ts";
import type { FileEntry, FileList } from "@hob/protocol/api/files.ts";
import type { RestorePathAnswer, TreeDifference, TreeDiffLine } from "@hob/protocol/api/history.ts";
import { HobError, isErrorCode } from "@hob/protocol/errors.ts";
import { exchangeBytes } from "./byte-stream.ts";
import { call, callJson, type Endpoint } from "./http.ts";
import { callLines } from "./ndjson.ts";

/** A sleeping sprite is woken first. What is dirty is written before a checkpoint: as much as the sprite's memory holds. */
const TIMEOUT_MS = { plain: 60_000, stream: 900_000 } as const;

/** Longest silence of a connection that carries a file; a sleeping sprite is woken in it. */
const SILENCE_MS = 120_000;

export interface DiffOptions {
  to?: string | undefined;
  /** only this and what is below */
  path?: string | undefined;
  /** unified diffs of text files too */
  text?: boolean | undefined;
  /** told about each second how far it is */
  onProgress?: ((progress: DiffProgress) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export type DiffProgress = Extract<TreeDiffLine, { type: "progress" }>;

export interface CheckpointListOptions {
  /** automatic ones too */
  includeAuto?: boolean | undefined;
  /** only this one and those that derive from it */
  history?: string | undefined;
}

/** Called with each line of progress before the last. */
export type OnCheckpointEvent = (event: CheckpointEvent) => void;

/** Checkpoints of one sprite. */
export class SpriteCheckpoints {
  readonly #endpoint: Endpoint;
  readonly #path: string;

  /** @param path of the sprite: `/v1/sprites/NAME` */
  constructor(endpoint: Endpoint, path: string) {
    this.#endpoint = endpoint;
    this.#path = path;
  }

  /** @returns the last line, which has the new `id` @throws HobError `no_space` | … */
  create(comment: string | undefined, onEvent: OnCheckpointEvent = () => {}): Promise<CheckpointEvent> {
    return this.#run("create a checkpoint", `${this.#path}/checkpoint`, comment === undefined ? {} : { comment }, onEvent);
  }

  /** The live state first, then the newest. */
  async list({ includeAuto = false, history }: CheckpointListOptions = {}): Promise<Checkpoint[]> {
    const query = { includeAuto: includeAuto ? "true" : undefined, history };
    const listed = await callJson<Checkpoint[]>(this.#endpoint, "GET", `${this.#path}/checkpoints`, { query, timeoutMs: TIMEOUT_MS.plain });
    if (!Array.isArray(listed)) throw new HobError("bad_answer", "list checkpoints: the answer is no list");
    return listed;
  }

  get(id: string): Promise<Checkpoint> {
    return callJson(this.#endpoint, "GET", this.#one(id), { timeoutMs: TIMEOUT_MS.plain });
  }

  async delete(id: string): Promise<void> {
    await call(this.#endpoint, "DELETE", this.#one(id), { timeoutMs: TIMEOUT_MS.plain });
  }

  /** @returns the last line, whose `undoId` is the checkpoint of the state before */
  restore(id: string, onEvent: OnCheckpointEvent = () => {}): Promise<CheckpointEvent> {
    return this.#run(`restore checkpoint ${id}`, `${this.#one(id)}/restore`, undefined, onEvent);
  }

  /** Puts the state before the last restore back. */
  undo(onEvent: OnCheckpointEvent = () => {}): Promise<CheckpointEvent> {
    return this.#run("undo the last restore", `${this.#path}/restore/undo`, undefined, onEvent);
  }

  /** What differs between two states, in the order of the paths below each folder. @param options.to absent: the live state */
  async *diff(from: string, options: DiffOptions = {}): AsyncGenerator<TreeDifference, void, undefined> {
    const { to, path, text, onProgress, signal } = options;
    const query = { from, to, path, text: text === true ? "true" : undefined, progress: onProgress && "true" };
    const lines = callLines<TreeDiffLine>(this.#endpoint, "GET", `${this.#path}/checkpoints/diff`, {
      query,
      signal,
      timeoutMs: TIMEOUT_MS.stream,
    });
    for await (const line of lines) {
      if (line.type === "complete") return;
      if (line.type === "error") throw toError("compare checkpoints", line);
      if (line.type === "progress") onProgress?.(line);
      else yield line;
    }
    throw new HobError("connection_lost", "compare checkpoints: the connection ended before all was told");
  }

  /** What is in a folder of a checkpoint; a file gives itself. */
  async files(id: string, path: string, options: { recursive?: boolean | undefined } = {}): Promise<FileEntry[]> {
    const query = { path, recursive: options.recursive === true ? "true" : undefined };
    const answer = await callJson<FileList | null>(this.#endpoint, "GET", `${this.#one(id)}/files`, {
      query,
      timeoutMs: TIMEOUT_MS.stream,
    });
    if (!Array.isArray(answer?.entries)) throw new HobError("bad_answer", "list files of a checkpoint: the answer has no list");
    return answer.entries;
  }

  /** A file of a checkpoint, to be read to its end or destroyed. */
  content(id: string, path: string): Promise<Readable> {
    return exchangeBytes(this.#endpoint, "GET", `${this.#one(id)}/content`, { query: { path }, silenceMs: SILENCE_MS });
  }

  /** Puts one path back to what it was. @throws HobError `not_found` if the checkpoint does not have it */
  restorePath(id: string, path: string): Promise<RestorePathAnswer> {
    return callJson(this.#endpoint, "POST", `${this.#one(id)}/restore-path`, { body: { path }, timeoutMs: TIMEOUT_MS.stream });
  }

  #one(id: string): string {
    if (id === "" || id === "." || id === "..") throw new HobError("invalid_request", `'${id}' is no id of a checkpoint`);
    return `${this.#path}/checkpoints/${encodeURIComponent(id)}`;
  }

  /** A stream that ends without saying how it went is an error, whatever it said before. */
  async #run(what: string, path: string, body: unknown, onEvent: OnCheckpointEvent): Promise<CheckpointEvent> {
    const options = { timeoutMs: TIMEOUT_MS.stream, ...(body === undefined ? {} : { body }) };
    for await (const event of callLines<CheckpointEvent>(this.#endpoint, "POST", path, options)) {
      if (event.type === "complete") return event;
      if (event.type === "error") throw toError(what, event);
      onEvent(event);
    }
    throw new HobError("connection_lost", `${what}: the connection ended before it was done`, {
      hint: "list the checkpoints to see what happened",
    });
  }
}

function toError(what: string, { error, code, hint }: Pick<CheckpointEvent, "error" | "code" | "hint">): HobError {
  const known = code !== undefined && isErrorCode(code) ? code : "internal";
  return new HobError(known, error ?? `${what}: it failed`, hint === undefined ? {} : { hint });
}
