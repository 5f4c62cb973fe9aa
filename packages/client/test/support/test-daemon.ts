import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Sprite } from "@hob/protocol";
import { type WebSocket, WebSocketServer } from "ws";
import { BrokenSessions } from "./broken-sessions.ts";
import { serveExec } from "./exec-session.ts";
import { serveProxy } from "./proxy-session.ts";

export const TEST_TOKEN = "hob/test/secret";

/** How a test bends the server; every field is read per request. */
export interface Faults {
  /** answer of every HTTP request instead of the real one */
  answer?: { status: number; body: string; headers?: Record<string, string> } | undefined;
  /** answers of single routes, by `METHOD /path` */
  answers?: Readonly<Record<string, string>>;
  /** no answer at all */
  silent?: boolean;
  /** exec upgrades are refused with this */
  refuseExec?: { status: number; body: string };
}

export interface SeenRequest {
  method: string;
  url: URL;
  body: string;
  authorization: string | undefined;
}

/**
 * A small server of the documented API: sprites in memory, commands as real processes of this machine, terminals as
 * real PTYs. It is written from the description of the wire, so that the client is not tested against itself.
 */
export class TestDaemon {
  readonly sprites = new Map<string, Sprite>();
  readonly requests: SeenRequest[] = [];
  /** text frames that exec clients have sent */
  readonly clientFrames: string[] = [];
  /** answers of routes inside a sprite, by method and the rest of the path */
  readonly sessionAnswers = new Map<string, { status: number; body: string }>();
  readonly broken = new BrokenSessions();
  /** clients of ports/watch, to which a test may send */
  readonly portWatchers = new Set<WebSocket>();
  faults: Faults = {};
  readonly #server: Server;
  readonly #sockets = new WebSocketServer({ noServer: true, maxPayload: 1024 * 1024 });

  private constructor() {
    this.#server = createServer((request, response) => void this.#handle(request, response));
    this.#server.on("upgrade", (request, socket, head) => {
      this.#note(request, "");
      const refusal = this.#refusal(request);
      if (refusal !== undefined) {
        const length = Buffer.byteLength(refusal.body);
        socket.end(
          `HTTP/1.1 ${refusal.status} Refused\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\nConnection: close\r\n\r\n${refusal.body}`,
        );
        return;
      }
      const { pathname, searchParams } = new URL(request.url ?? "", this.url);
      if (pathname.endsWith("/ports/watch")) {
        this.#sockets.handleUpgrade(request, socket, head, (webSocket) => this.portWatchers.add(webSocket.on("error", () => {})));
        return;
      }
      if (pathname.endsWith("/proxy")) {
        this.#sockets.handleUpgrade(request, socket, head, serveProxy);
        return;
      }
      this.#sockets.handleUpgrade(request, socket, head, (webSocket) => this.#serve(webSocket, pathname, searchParams));
    });
  }

  #serve(socket: WebSocket, path: string, query: URLSearchParams): void {
    const [, id] = /\/exec\/(\d+)$/.exec(path) ?? [];
    const command = query.get("cmd") ?? "";
    if (id !== undefined) this.broken.attach(socket, id, Number(query.get("output_offset") ?? 0));
    else if (command.startsWith("broken:")) this.broken.start(socket, command);
    else serveExec(socket, query, this.clientFrames);
  }

  static async start(): Promise<TestDaemon> {
    const daemon = new TestDaemon();
    await new Promise<void>((resolve) => daemon.#server.listen(0, "127.0.0.1", resolve));
    return daemon;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  add(name: string): Sprite {
    const now = new Date().toISOString();
    const sprite: Sprite = {
      id: `sprite-${name}`,
      name,
      organization: "hob",
      url: `http://${name}.localhost`,
      status: "running",
      created_at: now,
      updated_at: now,
      url_settings: { auth: "sprite" },
      version: "v0.0.1-rc48",
      environment_version: "v0.0.1-rc48",
      last_running_at: now,
      last_warming_at: null,
      config: { ram_mb: 1024, cpus: 2, storage_gb: 100, region: "local" },
      environment: {},
    };
    this.sprites.set(name, sprite);
    return sprite;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #note(request: IncomingMessage, body: string): URL {
    const url = new URL(request.url ?? "", this.url);
    this.requests.push({ method: request.method ?? "", url, body, authorization: request.headers.authorization });
    return url;
  }

  #refusal(request: IncomingMessage): { status: number; body: string } | undefined {
    if (this.faults.refuseExec !== undefined) return this.faults.refuseExec;
    if (request.headers.authorization !== `Bearer ${TEST_TOKEN}`) return { status: 401, body: errorBody("unauthorized", "no such token") };
    const [, name = "", id] = /^\/v1\/sprites\/([^/]+)\/(?:exec|proxy|ports\/watch)(?:\/(\d+))?/.exec(request.url ?? "") ?? [];
    if (id !== undefined && !this.broken.input.has(id)) return { status: 404, body: errorBody("not_found", `session not found: ${id}`) };
    return this.sprites.has(name) ? undefined : { status: 404, body: errorBody("not_found", `no sprite ${name}`, "'hob list' shows them") };
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString("utf8");
    const url = this.#note(request, body);
    if (this.faults.silent) return;
    const instead = this.faults.answers?.[`${request.method} ${url.pathname}`];
    const answer = this.faults.answer ?? (instead === undefined ? this.#answer(request, url, body) : { status: 200, body: instead });
    response.writeHead(answer.status, { "content-type": "application/json", ...answer.headers }).end(answer.body);
  }

  #answer(request: IncomingMessage, url: URL, body: string): NonNullable<Faults["answer"]> {
    if (request.headers.authorization !== `Bearer ${TEST_TOKEN}`) return { status: 401, body: errorBody("unauthorized", "no such token") };
    const [, route] = /^\/v1\/sprites\/[^/]+(\/(?:exec|checkpoints|services|fs)\b.*)$/.exec(url.pathname) ?? [];
    const prepared = route === undefined ? undefined : this.sessionAnswers.get(`${request.method} ${route}`);
    if (prepared !== undefined) return prepared;
    const [, name, resource] = /^\/v1\/sprites(?:\/([^/]+))?(?:\/([^/]+))?$/.exec(url.pathname) ?? [];
    if (name === undefined) return this.#collection(request, url, body);
    const sprite = this.sprites.get(name);
    if (sprite === undefined) return { status: 404, body: errorBody("not_found", `no sprite ${name}`, "'hob list' shows them") };
    if (resource === "bounce") return json(200, { totalMs: 412.5, steps: [{ name: "stop", ms: 12.5 }], uptimeMs: 1, pilotPid: 7 });
    if (resource === "check")
      return json(200, { sprite_name: name, sprite_id: sprite.id, status: "ok", reason: "", checked_at: sprite.created_at, elapsed: 1 });
    const other = this.#lifecycle(sprite, resource, body);
    if (other !== undefined) return other;
    if (request.method === "DELETE") {
      this.sprites.delete(name);
      return { status: 204, body: "" };
    }
    if (request.method === "PUT") Object.assign(sprite, JSON.parse(body));
    return json(200, sprite);
  }

  #collection(request: IncomingMessage, url: URL, body: string): NonNullable<Faults["answer"]> {
    if (request.method === "POST") return this.#create(body);
    return request.headers.accept === "application/x-ndjson" ? this.#watch() : this.#list(url);
  }

  #lifecycle(sprite: Sprite, resource: string | undefined, body: string): Faults["answer"] | undefined {
    const { name, status } = sprite;
    switch (resource) {
      case "activity":
        return json(200, {
          sprite_name: name,
          status,
          holders: status === "running" ? [{ kind: "exec", label: "GET /exec", since: sprite.created_at }] : [],
          idle_timeout_seconds: 30,
          idle_since: null,
          sleeps_at: null,
          cold_at: status === "warm" ? "2030-01-01T00:00:00.000Z" : null,
          last_wake: { at: sprite.created_at, reason: "GET /exec" },
        });
      case "sleep":
        if (JSON.parse(body).force !== true && name === "busy")
          return { status: 409, body: errorBody("conflict", `put sprite ${name} to sleep: it is in use`, "repeat with force") };
        sprite.status = "warm";
        return json(200, { sprite_name: name, status: "warm" });
      case "restart":
        return json(200, { sprite_name: name, machine_id: sprite.id, message: "restarted in 1.0 s" });
      case "upgrade":
        return { status: 204, body: "" };
      default:
        return undefined;
    }
  }

  #watch(): NonNullable<Faults["answer"]> {
    const org = { name: "hob", running: 0, warm: 0, cold: 0, running_limit: 1, warm_limit: 1 };
    const times = { last_running_at: null, last_warming_at: null, timestamp: "2030-01-01T12:00:00.000Z" };
    const lines = [...this.sprites.values()].map(({ name, status }) => ({ type: "snapshot", name, status, ...times, org }));
    const all = [...lines, { type: "heartbeat", ...times, org }, { type: "deleted", name: "gone", status: "running", ...times, org }];
    return {
      status: 200,
      body: all.map((line) => `${JSON.stringify(line)}\n`).join(""),
      headers: { "content-type": "application/x-ndjson" },
    };
  }

  #create(body: string): NonNullable<Faults["answer"]> {
    const { name } = JSON.parse(body) as { name: string };
    if (this.sprites.has(name)) return { status: 400, body: errorBody("name_taken", `create sprite ${name}: the name is taken`) };
    return json(201, this.add(name));
  }

  #list(url: URL): NonNullable<Faults["answer"]> {
    const names = [...this.sprites.keys()].filter((name) => name.startsWith(url.searchParams.get("prefix") ?? "")).sort();
    const after = url.searchParams.get("continuation_token") ?? "";
    const size = Number(url.searchParams.get("max_results") ?? 50);
    const rest = names.filter((name) => name > after);
    const page = rest.slice(0, size);
    const more = rest.length > size;
    return json(200, {
      sprites: page.map((name) => this.sprites.get(name)),
      has_more: more,
      ...(more ? { next_continuation_token: page.at(-1) } : {}),
      running: page.length,
      warm: 0,
      cold: 0,
      name: "hob",
    });
  }
}

const json = (status: number, value: unknown) => ({ status, body: JSON.stringify(value) });

export const errorBody = (error: string, message: string, hint?: string): string => JSON.stringify({ error, message, hint });
