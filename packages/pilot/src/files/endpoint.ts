import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { HobError, LIMITS, SPRITE_VERSION } from "@hob/protocol";
import type { HttpBindings } from "@hono/node-server";
import { Hono } from "hono";
import type { Logger } from "pino";
import { WebSocketServer } from "ws";
import { type Endpoint, relativeTarget } from "../api/endpoint.ts";
import type { HelperClient } from "../helper/index.ts";
import { changeMode, changeOwner, copyFiles, deleteFiles, makeDirectory, makeSymlink, renameFile } from "./change.ts";
import { answerError } from "./errors.ts";
import { listFiles } from "./list.ts";
import { FileOperations, type FilesContainer } from "./operations.ts";
import type { FilesContext } from "./parameters.ts";
import { readFile } from "./read.ts";
import { WatchConnection } from "./watch.ts";
import { writeFile } from "./write.ts";

export interface FilesDependencies {
  readonly helper: Pick<HelperClient, "files">;
  readonly container: FilesContainer;
  readonly log: Pick<Logger, "error">;
}

/** Watchers of one sprite at a time. */
const WATCHERS_MAX = 128;

type Handler = (c: FilesContext, operations: FileOperations) => Promise<Response>;

/** All routes but the WebSocket, by method. */
const HANDLERS: Readonly<Record<string, readonly [method: "GET" | "PUT" | "POST" | "DELETE", handler: Handler]>> = {
  read: ["GET", readFile],
  write: ["PUT", writeFile],
  list: ["GET", listFiles],
  delete: ["DELETE", deleteFiles],
  rename: ["POST", renameFile],
  copy: ["POST", copyFiles],
  chmod: ["POST", changeMode],
  chown: ["POST", changeOwner],
  mkdir: ["POST", makeDirectory],
  symlink: ["POST", makeSymlink],
};

/** The files of one sprite: `/fs/…`. */
export class FilesEndpoint implements Endpoint {
  readonly routes: Hono;
  readonly #operations: FileOperations;
  readonly #webSockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: LIMITS.webSocketMessageBytes });

  constructor({ helper, container, log }: FilesDependencies) {
    this.#operations = new FileOperations(helper, container);
    this.#webSockets.on("headers", (headers) => headers.push(`Sprite-Version: ${SPRITE_VERSION}`));
    const app = new Hono<{ Bindings: HttpBindings }>();
    for (const [name, [method, handler]] of Object.entries(HANDLERS)) {
      app.on(method, `/fs/${name}`, (c) => handler(c, this.#operations));
      app.all(`/fs/${name}`, (c) => {
        const error = new HobError("method_not_allowed", `${name}: ${c.req.method} is not possible`, { hint: `use ${method}` });
        return c.json(error.toBody(), 405, { Allow: method === "GET" ? "GET, HEAD" : method });
      });
    }
    app.get("/fs/watch", () => {
      throw new HobError("invalid_request", "watch: a WebSocket upgrade is needed");
    });
    app.onError(answerError(log));
    this.routes = app as unknown as Hono;
  }

  /** Takes an upgrade of `fs/watch`. @returns false if it is for another route */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean {
    if (relativeTarget(request)?.path !== "/fs/watch") return false;
    if (this.#webSockets.clients.size >= WATCHERS_MAX) {
      throw new HobError("conflict", `watch: ${WATCHERS_MAX} watchers are connected already`, { hint: "close some of them" });
    }
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => new WatchConnection(webSocket, this.#operations));
    return true;
  }

  /** Ends all watchers. */
  close(): void {
    for (const client of this.#webSockets.clients) client.terminate();
    this.#webSockets.close();
  }
}
