import { type FileWatchMessage, fileWatchRequest, HobError, LIMITS, toHobError } from "@hob/protocol";
import type { WebSocket } from "ws";
import type { z } from "zod";
import { type EventRecord, FileError, type FileStream } from "../helper/index.ts";
import { fileErrorBody } from "./errors.ts";
import type { FileOperations } from "./operations.ts";
import { absolutePath, pathBelow, withoutSlash } from "./paths.ts";

/** Paths that one connection watches. */
const PATHS_MAX = 64;
/** A peer that does not answer a ping until the next one is gone. */
const PING_INTERVAL_MS = 30_000;

type Subscribe = Extract<z.output<typeof fileWatchRequest>, { type: "subscribe" }>;

/** One client of `fs/watch`, and what it watches. */
export class WatchConnection {
  readonly #socket: WebSocket;
  readonly #operations: FileOperations;
  readonly #streams = new Map<string, FileStream>();
  readonly #pinger: NodeJS.Timeout;
  /** requests of the client are taken one after the other */
  #queue: Promise<void> = Promise.resolve();
  #queued = 0;
  #answered = true;

  constructor(socket: WebSocket, operations: FileOperations) {
    this.#socket = socket;
    this.#operations = operations;
    this.#pinger = setInterval(() => this.#ping(), PING_INTERVAL_MS);
    socket.on("message", (data) => this.#onMessage(String(data)));
    socket.on("pong", () => {
      this.#answered = true;
    });
    socket.on("error", () => socket.terminate());
    socket.on("close", () => this.#end());
  }

  #ping(): void {
    if (!this.#answered) return void this.#socket.terminate();
    this.#answered = false;
    this.#socket.ping();
  }

  #end(): void {
    clearInterval(this.#pinger);
    for (const stream of this.#streams.values()) stream.close();
    this.#streams.clear();
  }

  #onMessage(text: string): void {
    if (this.#queued >= PATHS_MAX) return void this.#socket.close(1008, "too many requests at a time");
    this.#queued++;
    this.#queue = this.#queue.then(() => this.#take(text)).finally(() => this.#queued--);
  }

  async #take(text: string): Promise<void> {
    const request = parse(text);
    if (request === undefined)
      return this.#send({ type: "error", message: "watch: neither a subscribe nor an unsubscribe", code: "EINVAL" });
    if (request.type === "subscribe") return this.#subscribe(request);
    const named = request.paths?.map((path) => withoutSlash(absolutePath(path, request.workingDir)));
    const paths = (named ?? [...this.#streams.keys()]).filter((path) => this.#streams.has(path));
    for (const path of paths) this.#forget(path);
    this.#send({ type: "unsubscribed", paths });
  }

  async #subscribe(request: Subscribe): Promise<void> {
    const paths: string[] = [];
    for (const path of new Set(request.paths.map((each) => withoutSlash(absolutePath(each, request.workingDir))))) {
      const stream = await this.#open(path, request);
      if (stream === undefined) continue;
      paths.push(path);
      this.#forget(path);
      this.#streams.set(path, stream);
    }
    if (this.#socket.readyState !== this.#socket.OPEN) return void this.#end();
    if (paths.length > 0) this.#send({ type: "subscribed", paths });
    for (const path of paths) void this.#relay(path);
  }

  /** @returns undefined if it failed; the client was told */
  async #open(path: string, request: Subscribe): Promise<FileStream | undefined> {
    let stream: FileStream | undefined;
    try {
      if (this.#streams.size >= PATHS_MAX && !this.#streams.has(path)) {
        throw new HobError("conflict", `watch: one connection watches at most ${PATHS_MAX} paths`);
      }
      const flags = { recursive: request.recursive === true };
      stream = await this.#operations.start({ operation: "watch", path, asRoot: request.asRoot, flags });
      await stream.ready();
      return stream;
    } catch (error) {
      stream?.close();
      this.#send(presentError(error, path));
      return undefined;
    }
  }

  /** Passes events on, as slowly as the client takes them: the kernel's queue says then that some were lost. */
  async #relay(path: string): Promise<void> {
    const stream = this.#streams.get(path);
    if (stream === undefined) return;
    try {
      for await (const events of stream.events()) {
        for (const event of events) this.#send(presentEvent(event, path));
        while (this.#socket.bufferedAmount > LIMITS.outputHighWaterBytes) await this.#sent();
      }
    } catch (error) {
      // Whoever closed the stream has taken it off the list.
      if (this.#streams.get(path) !== stream) return;
      this.#send(presentError(error, path));
      this.#forget(path);
    }
  }

  /** Until an empty frame that was queued now is on its way, and so all before it. */
  #sent(): Promise<void> {
    return new Promise((resolve, reject) => this.#socket.ping("", undefined, (error?: Error) => (error ? reject(error) : resolve())));
  }

  #forget(path: string): void {
    const stream = this.#streams.get(path);
    this.#streams.delete(path);
    stream?.close();
  }

  #send(message: FileWatchMessage): void {
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.send(JSON.stringify(message));
  }
}

function parse(text: string): z.output<typeof fileWatchRequest> | undefined {
  try {
    return fileWatchRequest.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

const TROUBLES: Partial<Record<EventRecord["kind"], string>> = {
  overflow: "watch: there were more changes than could be told; some events are lost",
  limit: "watch: a new directory is not watched, there are too many; watch a smaller tree",
  gone: "watch: it was removed or moved, and is watched no more",
};

function presentEvent(event: EventRecord, watched: string): FileWatchMessage {
  const path = pathBelow(watched, event.path);
  const { kind } = event;
  if (kind === "overflow" || kind === "limit" || kind === "gone") {
    return { type: "error", message: TROUBLES[kind] ?? kind, path, ...(kind === "gone" ? { code: "ENOENT" } : {}) };
  }
  const absent = kind === "remove" || kind === "rename";
  return {
    type: "event",
    event: kind,
    path,
    timestamp: new Date(event.timeMs).toISOString(),
    ...(absent ? {} : { size: event.sizeBytes }),
    isDir: event.isDir,
  };
}

function presentError(thrown: unknown, path: string): FileWatchMessage {
  if (!(thrown instanceof FileError)) return { type: "error", message: toHobError(thrown).message, path };
  if (thrown.errno === "ENOSPC" || thrown.errno === "EMFILE") {
    return { type: "error", message: "watch: too many directories; watch a smaller tree", code: "EIO", path };
  }
  const { error, code } = fileErrorBody(thrown, "watch");
  return { type: "error", message: error, code, path };
}
