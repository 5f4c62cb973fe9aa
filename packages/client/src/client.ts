import type { Duplex } from "node:stream";
import type { UrlTicket } from "@hob/protocol/api/ports.ts";
import { HobError } from "@hob/protocol/errors.ts";
import type { BounceResponse } from "@hob/protocol/pilot.ts";
import type { CreateSpriteRequest, Sprite, SpriteList, UpdateSpriteRequest } from "@hob/protocol/sprites.ts";
import type { SpriteCheckpoints } from "./checkpoints.ts";
import type { ExecOptions, ExecResult, ExecSession } from "./exec.ts";
import type { Forward, ForwardOptions } from "./forward.ts";
import { call, callJson, type Endpoint } from "./http.ts";
import type { PortListener, PortWatch } from "./ports.ts";
import type { ProxyTarget } from "./proxy.ts";

export interface HobClientOptions {
  /** http: or https: URL of the daemon */
  url: string;
  token?: string | undefined;
}

/** Bounds on waiting, milliseconds. Create, delete and bounce start or stop a machine, under emulation perhaps. */
const TIMEOUT_MS = { create: 180_000, remove: 60_000, bounce: 120_000, wake: 60_000, plain: 30_000 } as const;

/** Largest page the API serves. */
const PAGE_SIZE_MAX = 500;

export interface ListOptions {
  /** only names that begin with this */
  prefix?: string | undefined;
  /** sprites per request, 1 to 500 */
  pageSize?: number;
  timeoutMs?: number;
  signal?: AbortSignal;
}

/** Answer of `GET /v1/sprites/NAME/check`. */
export interface SpriteCheck {
  sprite_name: string;
  sprite_id: string;
  status: string;
  reason: string;
  checked_at: string;
  elapsed: number;
}

/** Typed client of the API of a Hob daemon. It holds no connection between calls. */
export class HobClient {
  readonly endpoint: Endpoint;

  /** @throws HobError `invalid_config` */
  constructor(options: HobClientOptions) {
    this.endpoint = { url: parseUrl(options.url), token: checkToken(options.token) };
  }

  /** Makes a sprite and waits until it can be used. @throws HobError `name_taken`, `invalid_name`, … */
  async create(request: CreateSpriteRequest, signal?: AbortSignal): Promise<Sprite> {
    return callJson(this.endpoint, "POST", "/v1/sprites", { body: request, timeoutMs: TIMEOUT_MS.create, signal });
  }

  /** All sprites, page after page as they are asked for. */
  async *list(options: ListOptions = {}): AsyncGenerator<Sprite, void, undefined> {
    let token: string | undefined;
    do {
      const page = await this.listPage(options, token);
      yield* page.sprites;
      const next = page.has_more ? page.next_continuation_token : undefined;
      if (next !== undefined && next === token) {
        throw new HobError("bad_answer", "list sprites: the server repeats a page", { hint: "the daemon and this client may not fit" });
      }
      token = next;
    } while (token !== undefined);
  }

  async listPage(options: ListOptions = {}, continuationToken?: string): Promise<SpriteList> {
    const page = await callJson<SpriteList>(this.endpoint, "GET", "/v1/sprites", {
      query: {
        prefix: options.prefix,
        max_results: String(Math.min(options.pageSize ?? PAGE_SIZE_MAX, PAGE_SIZE_MAX)),
        continuation_token: continuationToken,
      },
      timeoutMs: options.timeoutMs ?? TIMEOUT_MS.plain,
      signal: options.signal,
    });
    if (!Array.isArray(page?.sprites)) {
      throw new HobError("bad_answer", "list sprites: the answer has no list", { hint: `is ${this.endpoint.url.origin} a Hob daemon?` });
    }
    return page;
  }

  async get(name: string): Promise<Sprite> {
    return callJson(this.endpoint, "GET", spritePath(name), { timeoutMs: TIMEOUT_MS.plain });
  }

  async update(name: string, request: UpdateSpriteRequest): Promise<Sprite> {
    return callJson(this.endpoint, "PUT", spritePath(name), { body: request, timeoutMs: TIMEOUT_MS.plain });
  }

  /** Removes the sprite and all it holds, for good. */
  async delete(name: string): Promise<void> {
    await call(this.endpoint, "DELETE", spritePath(name), { timeoutMs: TIMEOUT_MS.remove });
  }

  async check(name: string): Promise<SpriteCheck> {
    return callJson(this.endpoint, "GET", spritePath(name, "check"), { timeoutMs: TIMEOUT_MS.wake });
  }

  /** Stops the inner container and starts it again; the microVM runs on. */
  async bounce(name: string): Promise<BounceResponse> {
    return callJson(this.endpoint, "POST", spritePath(name, "bounce"), { timeoutMs: TIMEOUT_MS.bounce });
  }

  /** The checkpoints of a sprite. */
  async checkpoints(name: string): Promise<SpriteCheckpoints> {
    const { SpriteCheckpoints } = await import("./checkpoints.ts");
    return new SpriteCheckpoints(this.endpoint, spritePath(name));
  }

  /** Starts a command; resolves when the server has accepted it. A sleeping sprite is woken. */
  async exec(name: string, options: ExecOptions): Promise<ExecSession> {
    const { openExec } = await import("./exec.ts");
    return openExec(this.endpoint, spritePath(name, "exec"), options);
  }

  /** See watchPorts of ports.ts. */
  async watchPorts(name: string, listener: PortListener): Promise<PortWatch> {
    return (await import("./ports.ts")).watchPorts(this.endpoint, spritePath(name), listener);
  }

  /** See createUrlTicket of ports.ts. */
  async createUrlTicket(name: string): Promise<UrlTicket> {
    return (await import("./ports.ts")).createUrlTicket(this.endpoint, spritePath(name));
  }

  /** See openProxy of proxy.ts. */
  async openProxy(name: string, target: ProxyTarget): Promise<Duplex> {
    return (await import("./proxy.ts")).openProxy(this.endpoint, spritePath(name), target);
  }

  /** See forwardPort of forward.ts. */
  async forwardPort(name: string, options: ForwardOptions): Promise<Forward> {
    return (await import("./forward.ts")).forwardPort(this.endpoint, spritePath(name), options);
  }

  /** Runs a command to its end and keeps what it wrote. For output that fits in memory. */
  async run(name: string, options: ExecOptions & { input?: string | Uint8Array }): Promise<ExecResult> {
    const { collect } = await import("./exec.ts");
    const session = await this.exec(name, { ...options, stdin: options.input !== undefined });
    return collect(session, options.input);
  }
}

/** Path of a sprite's resource. Names are checked by the server; here only what would name another path is refused. */
function spritePath(name: string, resource?: string): string {
  if (name === "" || name === "." || name === "..") {
    throw new HobError("invalid_name", `'${name}' is not a sprite name`, {
      hint: "1 to 63 characters a-z, 0-9 and '-', beginning and ending with a letter or digit",
    });
  }
  return `/v1/sprites/${encodeURIComponent(name)}${resource === undefined ? "" : `/${resource}`}`;
}

function parseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || (url.protocol !== "http:" && url.protocol !== "https:")) {
    throw new HobError("invalid_config", `'${text}' is not a URL of a daemon`, { hint: "it looks like http://127.0.0.1:7788" });
  }
  return url;
}

function checkToken(token: string | undefined): string | undefined {
  if (token === undefined) return undefined;
  // Anything else cannot travel in a header, and is a mistake in how the token was read. RFC 9110 section 5.5.
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw new HobError("invalid_config", "the token is empty or has characters that no token has", {
      hint: "look at HOB_TOKEN and --token",
    });
  }
  return token;
}
