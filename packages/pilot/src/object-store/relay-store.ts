import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { type ErrorBody, HobError, isErrorCode, RELAY, relayList, relayPutAnswer } from "@hob/protocol";
import type {
  CallOptions,
  GetOptions,
  ListOptions,
  ListPage,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  PutResult,
  StoreCapabilities,
  StoredObject,
} from "@hob/storage/store/object-store.ts";
import { Semaphore } from "@hob/storage/util/concurrency.ts";
import type { RelayConnections } from "./relay-connections.ts";

/** Milliseconds for one request: the host has its own bounds towards the store. */
const REQUEST_TIMEOUT_MS = 120_000;
/** Bytes of an answer when the caller names no bound: the largest object there is, and room for its frame. */
const ANSWER_BYTES_MAX = 33 * 1024 * 1024;

interface Answer {
  status: number;
  headers: IncomingMessage["headers"];
  body: Buffer;
}

/** The object store as the host lets this sprite see it. */
export class RelayStore implements ObjectStore {
  readonly description = "the host's relay";
  readonly #connections: RelayConnections;
  /** An http.Agent counts connections only once it has them: the fifth request would wait for one that nobody dials. */
  readonly #places = new Semaphore(RELAY.connections);

  constructor(connections: RelayConnections) {
    this.#connections = connections;
  }

  async get(key: string, { range, maxBytes, signal }: GetOptions = {}): Promise<StoredObject | undefined> {
    const headers = range === undefined ? {} : { range: `bytes=${range.offset}-${range.offset + range.length - 1}` };
    const answer = await this.#send("GET", objectPath(key), { headers, signal, maxBytes });
    if (answer.status === 404) return undefined;
    // RFC 9110 section 15.5.17: the range begins at or beyond the end.
    if (answer.status === 416) return { data: Buffer.alloc(0), etag: answer.headers.etag ?? "" };
    check(answer, "read", key);
    return { data: answer.body, etag: answer.headers.etag ?? "" };
  }

  async head(key: string, { signal }: CallOptions = {}): Promise<ObjectInfo | undefined> {
    const answer = await this.#send("HEAD", objectPath(key), { signal });
    if (answer.status === 404) return undefined;
    check(answer, "look at", key);
    return {
      key,
      sizeBytes: Number(answer.headers["content-length"] ?? 0),
      etag: answer.headers.etag ?? "",
      modifiedAt: new Date(Number(answer.headers[RELAY.modifiedHeader] ?? 0)),
    };
  }

  async put(key: string, data: Uint8Array, { condition, signal }: PutOptions = {}): Promise<PutResult> {
    const headers: Record<string, string> = { "content-length": String(data.length) };
    if (condition !== undefined && "ifMatch" in condition) headers["if-match"] = condition.ifMatch;
    if (condition !== undefined && "ifNoneMatch" in condition) headers["if-none-match"] = condition.ifNoneMatch;
    const answer = await this.#send("PUT", objectPath(key), { headers, body: data, signal });
    check(answer, "write", key);
    return relayPutAnswer.parse(JSON.parse(answer.body.toString()));
  }

  async delete(key: string, { signal }: CallOptions = {}): Promise<void> {
    check(await this.#send("DELETE", objectPath(key), { signal }), "delete", key);
  }

  async list(prefix: string, { after, limit, signal }: ListOptions = {}): Promise<ListPage> {
    const query = new URLSearchParams({ prefix });
    if (after !== undefined) query.set("after", after);
    if (limit !== undefined) query.set("limit", String(limit));
    const answer = await this.#send("GET", `${RELAY.list}?${query}`, { signal });
    check(answer, "list", prefix);
    const { objects, next } = relayList.parse(JSON.parse(answer.body.toString()));
    const page = objects.map(({ key, sizeBytes, modifiedMs }) => ({ key, sizeBytes, modifiedAt: new Date(modifiedMs) }));
    return { objects: page, ...(next === undefined ? {} : { next }) };
  }

  /** The host has probed the store before it offered it. */
  async probe(): Promise<StoreCapabilities> {
    return { conditionalWrites: true };
  }

  #send(method: string, path: string, options: SendOptions): Promise<Answer> {
    return this.#places.run(() => this.#exchange(method, path, options), options.signal);
  }

  #exchange(method: string, path: string, options: SendOptions): Promise<Answer> {
    const { headers = {}, body, signal, maxBytes = ANSWER_BYTES_MAX } = options;
    return new Promise((resolve, reject) => {
      const fail = (error: unknown) => reject(signal?.aborted ? signal.reason : unavailable(error));
      const outgoing: ClientRequest = request({
        agent: this.#connections,
        method,
        path,
        headers: { host: "relay", ...headers },
        timeout: REQUEST_TIMEOUT_MS,
        ...(signal === undefined ? {} : { signal }),
      });
      outgoing.once("timeout", () => outgoing.destroy(new Error(`no answer within ${REQUEST_TIMEOUT_MS / 1000} s`)));
      outgoing.once("error", fail);
      outgoing.once("response", (response) => {
        collect(response, maxBytes).then(
          (bytes) => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: bytes }),
          (error) => {
            outgoing.destroy();
            fail(error);
          },
        );
      });
      outgoing.end(body);
    });
  }
}

interface SendOptions {
  headers?: Record<string, string>;
  body?: Uint8Array;
  signal?: AbortSignal | undefined;
  maxBytes?: number | undefined;
}

const objectPath = (key: string): string => RELAY.objects + key.split("/").map(encodeURIComponent).join("/");

async function collect(response: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > maxBytes) throw new HobError("payload_too_large", `read from the object store: more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function check({ status, body }: Answer, operation: string, key: string): void {
  if (status >= 200 && status < 300) return;
  try {
    const { error, message, hint } = JSON.parse(body.toString()) as ErrorBody;
    if (isErrorCode(error)) throw new HobError(error, message, hint === undefined ? {} : { hint });
  } catch (error) {
    if (error instanceof HobError) throw error;
  }
  throw new HobError(status >= 500 ? "store_unavailable" : "store_failed", `${operation} ${key}: the relay answered ${status}`);
}

const unavailable = (cause: unknown): HobError =>
  cause instanceof HobError
    ? cause
    : new HobError("store_unavailable", `reach the object store: the connection to the host was lost: ${reasonOf(cause)}`, { cause });

const reasonOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));
