import type { Duplex } from "node:stream";
import type { KillEvent, SessionItem } from "@hob/protocol/api/exec.ts";
import type { UrlTicket } from "@hob/protocol/api/ports.ts";
import { HobError } from "@hob/protocol/errors.ts";
import type { BounceResponse } from "@hob/protocol/pilot.ts";
import type {
  CreateSpriteRequest,
  SleepAnswer,
  Sprite,
  SpriteActivity,
  SpriteCheck,
  SpriteList,
  SpriteRestarted,
  SpriteWatchLine,
  UpdateSpriteRequest,
} from "@hob/protocol/sprites.ts";
import type { SpriteCheckpoints } from "./checkpoints.ts";
import type { ExecResult } from "./collect.ts";
import type { AttachOptions, ExecOptions, ExecSession } from "./exec.ts";
import type { SpriteFiles } from "./files.ts";
import type { Forward, ForwardOptions } from "./forward.ts";
import { call, callJson, type Endpoint, LONGEST_MS } from "./http.ts";
import { SpritePoliciesClient } from "./policies.ts";
import type { PortListener, PortWatch } from "./ports.ts";
import type { ProxyTarget } from "./proxy.ts";
import type { ServicesClient } from "./services.ts";
import type { KillOptions } from "./sessions.ts";
import { spritePath } from "./sprite-path.ts";
import type { HobStorage } from "./storage.ts";

export interface HobClientOptions {
  /** http: or https: URL of the daemon */
  url: string;
  token?: string | undefined;
}

/** Bounds on waiting, milliseconds. Create, delete and bounce start or stop a machine, under emulation perhaps. */
const TIMEOUT_MS = {
  create: 180_000,
  remove: 60_000,
  bounce: 120_000,
  restart: 180_000,
  wake: 60_000,
  plain: 30_000,
  watch: LONGEST_MS,
} as const;

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

  /** The sprites as they are and then every change, without an end. */
  async *watch(options: Pick<ListOptions, "prefix" | "signal"> = {}): AsyncGenerator<SpriteWatchLine, void, undefined> {
    const { callLines } = await import("./ndjson.ts");
    const query = { prefix: options.prefix, max_results: String(PAGE_SIZE_MAX) };
    yield* callLines<SpriteWatchLine>(this.endpoint, "GET", "/v1/sprites", { query, timeoutMs: TIMEOUT_MS.watch, signal: options.signal });
  }

  /** Why a sprite is awake, and until when; does not wake it. */
  async activity(name: string): Promise<SpriteActivity> {
    return callJson(this.endpoint, "GET", spritePath(name, "activity"), { timeoutMs: TIMEOUT_MS.plain });
  }

  /** Puts a sprite to sleep. @throws HobError `conflict` when something holds it, unless forced */
  async sleep(name: string, force = false): Promise<SleepAnswer> {
    return callJson(this.endpoint, "POST", spritePath(name, "sleep"), { body: { force }, timeoutMs: TIMEOUT_MS.wake });
  }

  /** Shuts the sprite's machine down in good order and boots it from its disk. */
  async restart(name: string): Promise<SpriteRestarted> {
    return callJson(this.endpoint, "POST", spritePath(name, "restart"), { timeoutMs: TIMEOUT_MS.restart });
  }

  /** Moves the sprite to the newest images; restarts it if it runs on older ones. */
  async upgrade(name: string): Promise<void> {
    await call(this.endpoint, "POST", spritePath(name, "upgrade"), { timeoutMs: TIMEOUT_MS.restart });
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

  /** Network, privileges and resources of one sprite. */
  policies(name: string): SpritePoliciesClient {
    return new SpritePoliciesClient(this.endpoint, spritePath(name, "policy"));
  }

  /** The services of a sprite. */
  async services(name: string): Promise<ServicesClient> {
    const { ServicesClient } = await import("./services.ts");
    return new ServicesClient(this.endpoint, spritePath(name));
  }

  /** The object store: durability, forks, exports, upkeep. */
  async storage(): Promise<HobStorage> {
    const { HobStorage } = await import("./storage.ts");
    return new HobStorage(this.endpoint);
  }

  /** Starts a command; resolves when the server has accepted it. A sleeping sprite is woken. */
  async exec(name: string, options: ExecOptions): Promise<ExecSession> {
    const { openExec } = await import("./exec.ts");
    return openExec(this.endpoint, spritePath(name, "exec"), options);
  }

  /** The files of a sprite. */
  async files(name: string): Promise<SpriteFiles> {
    const { SpriteFiles } = await import("./files.ts");
    return new SpriteFiles(this.endpoint, spritePath(name, "fs"));
  }

  /** Attaches to a session; resolves when it has said what it is. A sleeping sprite is woken. @throws HobError `not_found` */
  async attach(name: string, sessionId: string, options: AttachOptions = {}): Promise<ExecSession> {
    const { openAttach } = await import("./exec.ts");
    return openAttach(this.endpoint, spritePath(name, "exec"), sessionId, options);
  }

  /** The sessions that run in a sprite, with or without a client. */
  async sessions(name: string, timeoutMs: number = TIMEOUT_MS.wake): Promise<SessionItem[]> {
    const { listSessions } = await import("./sessions.ts");
    return listSessions(this.endpoint, spritePath(name, "exec"), timeoutMs);
  }

  /** Ends a session, and tells how that goes. @throws HobError `not_found` | `gone` for one that has ended */
  async *killSession(name: string, sessionId: string, options: KillOptions = {}): AsyncGenerator<KillEvent, void, undefined> {
    const { killSession } = await import("./sessions.ts");
    yield* killSession(this.endpoint, spritePath(name, "exec"), sessionId, options);
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
    const { collect } = await import("./collect.ts");
    const session = await this.exec(name, { ...options, stdin: options.input !== undefined });
    return collect(session, options.input);
  }
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
