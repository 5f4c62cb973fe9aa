import { HobError } from "@hob/protocol";
import { AwsV4Signer } from "aws4fetch";
import { sha256 } from "../format/hash.ts";
import type { S3Credentials } from "./s3-credentials.ts";
import { parseErrorAnswer } from "./s3-xml.ts";

export interface S3Config {
  bucket: string;
  region: string;
  /** without bucket; default: AWS in the region */
  endpoint?: string | undefined;
  /** bucket in the path rather than in the host name; default: when there is an endpoint */
  pathStyle?: boolean | undefined;
  credentials: S3Credentials;
  /** for one try of a request, from its start to the last byte; default 60 s, which is 32 MiB at 550 KB/s */
  timeoutMs?: number | undefined;
  /** tries of a request that may be repeated; default 4 */
  attempts?: number | undefined;
}

export interface S3Request {
  method: "GET" | "HEAD" | "PUT" | "DELETE";
  /** empty: the bucket */
  key: string;
  query?: Readonly<Record<string, string>>;
  headers?: Readonly<Record<string, string>>;
  body?: Uint8Array;
  /** bytes of an answer that are taken into memory */
  maxBytes: number;
  signal: AbortSignal | undefined;
}

export interface S3Response {
  status: number;
  headers: Headers;
  body: Buffer;
}

/** Error answers are short. */
const MAX_ERROR_BYTES = 64 * 1024;

/**
 * Signed requests to one bucket, one try of each: the signature is aws4fetch's, the connections are those of Node's `fetch`.
 * Answers below 500 other than 429 are returned, whatever they say; see `s3Error`.
 */
export class S3Client {
  readonly #config: S3Config;
  readonly #base: URL;
  /** signing keys, which change once a day */
  readonly #keys = new Map<string, ArrayBuffer>();

  constructor(config: S3Config) {
    this.#config = config;
    const { endpoint = `https://s3.${config.region}.amazonaws.com`, pathStyle = config.endpoint !== undefined, bucket } = config;
    const base = new URL(endpoint.endsWith("/") ? endpoint : `${endpoint}/`);
    this.#base = pathStyle ? new URL(`${bucket}/`, base) : new URL(base.href.replace("://", `://${bucket}.`));
  }

  /** @throws HobError `store_unavailable` for network errors, timeouts, 5xx and 429; the reason of an aborted signal */
  async send(request: S3Request): Promise<S3Response> {
    const timeout = AbortSignal.timeout(this.#config.timeoutMs ?? 60_000);
    const signal = request.signal === undefined ? timeout : AbortSignal.any([request.signal, timeout]);
    try {
      const response = await this.#fetch(request, signal);
      const body = await readBody(response, response.ok ? request.maxBytes : MAX_ERROR_BYTES);
      if (response.status >= 500 || response.status === 429)
        throw s3Error(request, { status: response.status, headers: response.headers, body });
      return { status: response.status, headers: response.headers, body };
    } catch (cause) {
      if (request.signal?.aborted) throw request.signal.reason;
      if (cause instanceof HobError) throw cause;
      const what = timeout.aborted ? "did not answer in time" : `cannot be reached: ${rootMessage(cause)}`;
      throw new HobError("store_unavailable", `the object store at ${this.#base.host} ${what}`, { cause });
    }
  }

  async #fetch({ method, key, query, headers, body }: S3Request, signal: AbortSignal): Promise<Response> {
    const url = new URL(key === "" ? this.#base : new URL(key, this.#base));
    // A slash after the bucket would be another resource to some servers, and to the signature.
    if (key === "" && url.pathname.length > 1) url.pathname = url.pathname.replace(/\/$/, "");
    for (const [name, value] of Object.entries(query ?? {})) url.searchParams.set(name, value);
    const signed = await new AwsV4Signer({
      ...this.#config.credentials,
      method,
      url: url.href,
      // The server checks the body against this: damage on the way is an error, not an object.
      headers: { ...headers, "x-amz-content-sha256": sha256(body ?? new Uint8Array()) },
      service: "s3",
      region: this.#config.region,
      cache: this.#keys,
    }).sign();
    const init = { method, headers: signed.headers, redirect: "manual", signal } as const;
    return await fetch(signed.url, body === undefined ? init : { ...init, body: body as Uint8Array<ArrayBuffer> });
  }
}

async function readBody(response: Response, maxBytes: number): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const part of response.body ?? []) {
    sizeBytes += part.length;
    if (sizeBytes > maxBytes) throw new HobError("payload_too_large", `the object store answered with more than ${maxBytes} bytes`);
    parts.push(part);
  }
  const length = response.headers.get("content-length");
  // A length beside an encoding is that of the encoded bytes.
  const comparable = response.body !== null && length !== null && response.headers.get("content-encoding") === null;
  if (comparable && Number(length) !== sizeBytes)
    throw new HobError("store_unavailable", `the object store's answer ended after ${sizeBytes} of ${length} bytes`);
  return Buffer.concat(parts);
}

const HINTS: Readonly<Record<number, string>> = {
  301: "the bucket is in another region: set region= in the store's description or AWS_REGION",
  400: "check region and endpoint in the store's description",
  401: "check the credentials",
  403: "check the credentials, their permissions on the bucket, and this machine's clock",
  404: "check that the bucket exists",
};

/** What an answer means that was not expected. */
export function s3Error({ method, key }: Pick<S3Request, "method" | "key">, { status, body }: S3Response): HobError {
  const { code, message } = parseErrorAnswer(body.toString("utf8"));
  const said = [status, code, message].filter((part) => part !== "").join(" ");
  const what = `the object store answered ${method} ${key === "" ? "of the bucket" : key} with ${said}`;
  const passing = status >= 500 ? status !== 501 : status === 429 || status === 408 || code === "RequestTimeout" || code === "SlowDown";
  if (passing) return new HobError("store_unavailable", what);
  if (status === 412 || status === 409) return new HobError("precondition_failed", what);
  if (status === 501) return new HobError("store_unsupported", what);
  const hint = HINTS[status];
  return new HobError("store_failed", what, hint === undefined ? {} : { hint });
}

function rootMessage(error: unknown): string {
  let root = error;
  while (root instanceof Error && root.cause instanceof Error) root = root.cause;
  return root instanceof Error ? root.message || root.name : String(root);
}
