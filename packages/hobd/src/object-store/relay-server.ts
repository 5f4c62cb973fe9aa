import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { HobError, RELAY, type RelayList, toHobError } from "@hob/protocol";
import { MAX_OBJECT_BYTES, type ObjectStore, type PutCondition } from "@hob/storage";
import type { Logger } from "pino";
import { readBody } from "./body.ts";
import { type UploadLimits, UploadShare } from "./upload-share.ts";

export interface RelayServerParts {
  /** confined to what the sprite may do: SpriteStore */
  store: ObjectStore;
  log: Logger;
  /** told each head that the pilot reads: it may say that another host owns the sprite now */
  onHead: (data: Buffer) => void;
  /** waits until so many bytes of this sprite may be written to the store; they count until the answer is disposed of */
  takeShare: TakeShare;
}

type TakeShare = (bytes: number, signal: AbortSignal) => Promise<Disposable>;

/** Objects of one sprite that are read or written at once, and bytes of them in this process's memory. */
const BODIES: UploadLimits = { requests: 2, bytes: MAX_OBJECT_BYTES, requestsOfOne: 2 };

/** Between signs of life to a pilot whose upload waits for its share: it gives up after two minutes without any. */
const WAITING_SIGN_MS = 20_000;

/**
 * Answers a pilot's requests for objects on connections that this host has dialled. The peer is a guest: every request is
 * checked by the store, and one connection carries one request at a time.
 */
export function createRelayServer(parts: RelayServerParts): Server {
  const bodies = new UploadShare(BODIES);
  const takeBody: TakeShare = (bytes, signal) => bodies.take("", bytes, signal);
  // Connections rest until the pilot wants something: Node.js would end one that has not begun a request after a minute.
  const server = createServer({ keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 }, (request, response) => {
    answer({ ...parts, takeBody }, request, response).catch((thrown: unknown) => refuse(parts, response, toHobError(thrown)));
  });
  server.on("clientError", (_error, socket) => socket.destroy());
  return server;
}

interface Parts extends RelayServerParts {
  /** as takeShare, for what this sprite may have in memory */
  takeBody: TakeShare;
}

async function answer({ store, onHead, takeBody, takeShare }: Parts, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  const url = urlOf(request);
  if (url.pathname === RELAY.list && request.method === "GET") return sendList(store, url.searchParams, response, gone.signal);
  if (!url.pathname.startsWith(RELAY.objects)) throw new HobError("not_found", "relay: no such route");
  const key = decodeKey(url.pathname.slice(RELAY.objects.length));
  const handler = HANDLERS[request.method ?? ""];
  if (handler === undefined) throw new HobError("method_not_allowed", `relay: no method ${request.method}`);
  await handler({ store, key, request, response, signal: gone.signal, onHead, takeBody, takeShare });
}

function urlOf({ url = "/" }: IncomingMessage): URL {
  const parsed = url.startsWith("/") ? URL.parse(url, "http://relay") : null;
  if (parsed === null) throw new HobError("invalid_request", "relay: the target is malformed");
  return parsed;
}

interface Exchange {
  store: ObjectStore;
  key: string;
  request: IncomingMessage;
  response: ServerResponse;
  signal: AbortSignal;
  onHead: (data: Buffer) => void;
  takeBody: TakeShare;
  takeShare: TakeShare;
}

const HANDLERS: Readonly<Record<string, (exchange: Exchange) => Promise<void>>> = {
  async GET({ store, key, request, response, signal, onHead }) {
    const range = parseRange(request.headers.range);
    const found = await store.get(key, { ...(range === undefined ? {} : { range }), signal });
    if (found === undefined) throw new HobError("not_found", `object ${key}: there is none`);
    if (key.endsWith("/head.json")) onHead(found.data);
    response.writeHead(range === undefined ? 200 : 206, { ETag: found.etag, "Content-Length": found.data.length }).end(found.data);
  },
  async HEAD({ store, key, response, signal }) {
    const found = await store.head(key, { signal });
    if (found === undefined) return void response.writeHead(404).end();
    const headers = { ETag: found.etag, "Content-Length": found.sizeBytes, [RELAY.modifiedHeader]: found.modifiedAt.getTime() };
    response.writeHead(200, headers).end();
  },
  async PUT({ store, key, request, response, signal, takeBody, takeShare }) {
    // Nothing of the body is read before: it waits in the guest, and not in the memory of this process. The share of the
    // store is taken when all of it is here: a guest that sends slowly, or nothing, holds up nobody but itself.
    using _body = await waitForShare(response, () => takeBody(announcedBytes(request), signal));
    const data = await readBody(request, MAX_OBJECT_BYTES);
    using _share = await waitForShare(response, () => takeShare(data.length, signal));
    const { etag } = await store.put(key, data, { ...parseCondition(request), signal });
    sendJson(response, 200, { etag });
  },
  async DELETE({ store, key, response, signal }) {
    await store.delete(key, { signal });
    response.writeHead(204).end();
  },
};

/** @throws HobError `payload_too_large` */
function announcedBytes({ headers }: IncomingMessage): number {
  const length = headers["content-length"];
  if (length === undefined) return MAX_OBJECT_BYTES;
  if (Number(length) > MAX_OBJECT_BYTES) throw new HobError("payload_too_large", `relay: an object has at most ${MAX_OBJECT_BYTES} bytes`);
  return Number(length);
}

/** RFC 9110 section 15.2: any number of interim answers may come before the final one. */
async function waitForShare(response: ServerResponse, take: () => Promise<Disposable>): Promise<Disposable> {
  const timer = setInterval(() => response.writeProcessing(), WAITING_SIGN_MS);
  try {
    return await take();
  } finally {
    clearInterval(timer);
  }
}

async function sendList(store: ObjectStore, query: URLSearchParams, response: ServerResponse, signal: AbortSignal): Promise<void> {
  const limit = query.get("limit");
  const after = query.get("after");
  const page = await store.list(query.get("prefix") ?? "", {
    ...(after === null ? {} : { after }),
    ...(limit === null ? {} : { limit: Number(limit) }),
    signal,
  });
  const list: RelayList = {
    objects: page.objects.map(({ key, sizeBytes, modifiedAt }) => ({ key, sizeBytes, modifiedMs: modifiedAt.getTime() })),
    ...(page.next === undefined ? {} : { next: page.next }),
  };
  sendJson(response, 200, list);
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  const body = JSON.stringify(value);
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) }).end(body);
}

function refuse({ log }: RelayServerParts, response: ServerResponse, error: HobError): void {
  if (error.status >= 500) log.warn({ err: error }, "relay: request failed");
  if (response.headersSent || response.destroyed) return void response.destroy();
  sendJson(response, error.status, error.toBody());
}

function decodeKey(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw new HobError("invalid_request", "relay: the key is malformed");
  }
}

function parseRange(header: string | undefined): { offset: number; length: number } | undefined {
  if (header === undefined) return undefined;
  const [, first, last] = /^bytes=(\d{1,15})-(\d{1,15})$/.exec(header) ?? [];
  const length = Number(last) - Number(first) + 1;
  if (first === undefined || length < 1) throw new HobError("invalid_request", "relay: the range is malformed");
  return { offset: Number(first), length };
}

function parseCondition({ headers }: IncomingMessage): { condition?: PutCondition } {
  const match = headers["if-match"];
  if (match !== undefined) return { condition: { ifMatch: match } };
  return headers["if-none-match"] === "*" ? { condition: { ifNoneMatch: "*" } } : {};
}
