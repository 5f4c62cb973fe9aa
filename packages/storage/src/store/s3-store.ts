import { HobError } from "@hob/protocol";
import { MAX_OBJECT_BYTES } from "../format/limits.ts";
import { retrying } from "../util/retry.ts";
import { probeConditionalWrites } from "./conditional-writes.ts";
import { checkGet, checkKey, checkListLimit, checkPrefix, checkSize, isObjectKey } from "./object-key.ts";
import type {
  CallOptions,
  GetOptions,
  ListOptions,
  ListPage,
  ObjectInfo,
  ObjectStore,
  ProbeOptions,
  PutCondition,
  PutOptions,
  PutResult,
  StoreCapabilities,
  StoredObject,
} from "./object-store.ts";
import { S3Client, type S3Config, type S3Request } from "./s3-client.ts";
import { s3Error } from "./s3-error.ts";
import type { HttpAnswer } from "./s3-http.ts";
import { parseListAnswer, type S3ListAnswer } from "./s3-xml.ts";

/** A list of 1000 keys of the greatest length, with room. */
const MAX_LIST_BYTES = 8 * 1024 * 1024;

/** Pages without an object that are passed over for one list: of a versioned bucket, they may be all delete markers. */
const MAX_EMPTY_PAGES = 1000;

/** An object store in an S3 bucket. Requests that may be repeated are, with growing random pauses. */
export class S3Store implements ObjectStore {
  readonly description: string;
  readonly #client: S3Client;
  readonly #attempts: number;
  /**
   * Ceph up to 17 compares what stands in If-Match with the etag as it is, without the quotes that RFC 9110 wants. Used only
   * after `probe` has seen both that it works and that a wrong etag is refused.
   */
  #bareEtags = false;

  constructor(config: S3Config) {
    this.#client = new S3Client(config);
    this.#attempts = config.attempts ?? 4;
    this.description = `s3://${config.bucket}`;
  }

  async get(key: string, options: GetOptions = {}): Promise<StoredObject | undefined> {
    checkKey(key);
    const { range, maxBytes } = checkGet(options);
    const headers = range === undefined ? {} : { range: `bytes=${range.offset}-${range.offset + range.length - 1}` };
    const response = await this.#send({ method: "GET", key, headers, maxBytes }, options);
    if (response.status === 404) return missing("GET", key, response);
    // RFC 9110, 15.5.17: nothing of the object is in the range.
    if (response.status === 416) return { data: Buffer.alloc(0), etag: "" };
    if (response.status !== 200 && response.status !== 206) throw s3Error({ method: "GET", key }, response);
    const ignoredRange = range !== undefined && response.status === 200;
    const data = ignoredRange ? response.body.subarray(range.offset, range.offset + range.length) : response.body;
    return { data, etag: etagOf(key, response) };
  }

  async head(key: string, options: CallOptions = {}): Promise<ObjectInfo | undefined> {
    checkKey(key);
    const response = await this.#send({ method: "HEAD", key, maxBytes: 0 }, options);
    if (response.status === 404) return undefined;
    if (response.status !== 200) throw s3Error({ method: "HEAD", key }, response);
    const sizeBytes = Number(response.headers["content-length"]);
    // RFC 9110, 8.6, lets a server leave it out; what is no number would break whoever is told it.
    if (!Number.isSafeInteger(sizeBytes)) throw new HobError("store_failed", `the object store names no size for ${key}`);
    return { key, sizeBytes, etag: etagOf(key, response), modifiedAt: new Date(response.headers["last-modified"] ?? 0) };
  }

  async put(key: string, data: Uint8Array, options: PutOptions = {}): Promise<PutResult> {
    checkKey(key);
    checkSize(key, data.length, MAX_OBJECT_BYTES);
    const request = {
      method: "PUT",
      key,
      body: data,
      headers: conditionHeaders(options.condition, this.#bareEtags),
      maxBytes: MAX_LIST_BYTES,
    } as const;
    const response = await this.#send(request, options, options.condition === undefined ? this.#attempts : 1);
    // S3 answers If-Match with 404 when there is no object.
    if (response.status === 404 && options.condition !== undefined && !isNoBucket(response))
      throw new HobError("precondition_failed", `object ${key} is not the one that was to be replaced: there is none`);
    if (response.status !== 200) throw s3Error({ method: "PUT", key }, response);
    return { etag: etagOf(key, response) };
  }

  async delete(key: string, options: CallOptions = {}): Promise<void> {
    checkKey(key);
    const response = await this.#send({ method: "DELETE", key, maxBytes: MAX_LIST_BYTES }, options);
    if (response.status === 404) missing("DELETE", key, response);
    else if (response.status !== 204 && response.status !== 200) throw s3Error({ method: "DELETE", key }, response);
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ListPage> {
    checkPrefix(prefix);
    const limit = checkListLimit(options);
    const query = {
      "list-type": "2",
      "encoding-type": "url",
      "max-keys": String(limit),
      prefix,
      ...(options.after === undefined ? {} : { "start-after": options.after }),
    };
    let continuation: string | undefined;
    for (let page = 0; page < MAX_EMPTY_PAGES; page++) {
      const continued = continuation === undefined ? {} : { "continuation-token": continuation };
      const response = await this.#send({ method: "GET", key: "", query: { ...query, ...continued }, maxBytes: MAX_LIST_BYTES }, options);
      if (response.status !== 200) throw s3Error({ method: "GET", key: "" }, response);
      const answer = parseListAnswer(response.body.toString("utf8"));
      const last = lastKey(answer, options.after);
      if (!answer.truncated) return { objects: answer.objects };
      if (last !== undefined) return { objects: answer.objects, next: last };
      if (answer.continuation === undefined) break;
      continuation = answer.continuation;
    }
    throw new HobError("store_failed", `the object store does not get on with the list of ${prefix === "" ? "the bucket" : prefix}`);
  }

  async probe(options: ProbeOptions = {}): Promise<StoreCapabilities> {
    const found = await probeConditionalWrites(this, options);
    if (found.conditionalWrites || this.#bareEtags) return found;
    this.#bareEtags = true;
    const foundBare = await probeConditionalWrites(this, options);
    this.#bareEtags = foundBare.conditionalWrites;
    return foundBare.conditionalWrites ? foundBare : found;
  }

  async #send(request: Omit<S3Request, "signal">, { signal }: CallOptions, attempts = this.#attempts): Promise<HttpAnswer> {
    const retries = { attempts, firstPauseMs: 100, longestPauseMs: 5000, signal };
    return await retrying(retries, () => this.#client.send({ ...request, signal }));
  }
}

function conditionHeaders(condition: PutCondition | undefined, bare: boolean): Record<string, string> {
  if (condition === undefined) return {};
  if ("ifNoneMatch" in condition) return { "if-none-match": "*" };
  return { "if-match": bare ? condition.ifMatch.replace(/^"(.*)"$/, "$1") : condition.ifMatch };
}

function etagOf(key: string, response: HttpAnswer): string {
  const { etag } = response.headers;
  if (etag === undefined) throw new HobError("store_failed", `the object store names no etag for ${key}`);
  return etag;
}

/**
 * After it the next page begins: a server that does not list in the order of bytes, or begins anew each time, would hide objects
 * or never come to an end. Keys that are not Hob's may be encoded in ways of their own, so they are not compared.
 */
function lastKey({ objects }: S3ListAnswer, after: string | undefined): string | undefined {
  const keys = objects.map(({ key }) => key);
  const own = [...(after === undefined ? [] : [after]), ...keys].filter(isObjectKey);
  if (own.some((key, index) => index > 0 && key <= (own[index - 1] ?? "")))
    throw new HobError("store_failed", "the object store does not list objects by key after the one that it was told", {
      hint: "Hob needs ListObjectsV2 in the order of keys, with start-after",
    });
  return keys.at(-1);
}

const isNoBucket = (response: HttpAnswer): boolean => response.body.includes("<Code>NoSuchBucket</Code>");

/** A bucket that is missing is a mistake in the settings, not an object that is missing. */
function missing(method: S3Request["method"], key: string, response: HttpAnswer): undefined {
  if (isNoBucket(response)) throw s3Error({ method, key }, response);
  return undefined;
}
