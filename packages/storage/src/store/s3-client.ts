import type { Agent } from "node:https";
import { HobError } from "@hob/protocol";
import { AwsV4Signer } from "aws4fetch";
import { sha256 } from "../format/hash.ts";
import type { S3Credentials } from "./s3-credentials.ts";
import { connectionError, s3Error } from "./s3-error.ts";
import { agentTrusting, exchange, type HttpAnswer } from "./s3-http.ts";

export interface S3Config {
  bucket: string;
  region: string;
  /** without bucket; default: AWS in the region */
  endpoint?: string | undefined;
  /** bucket in the path rather than in the host name; default: when there is an endpoint, or a dot in the bucket's name */
  pathStyle?: boolean | undefined;
  credentials: S3Credentials;
  /** PEM of the only authorities that are trusted; default: those that Node.js trusts */
  ca?: string | undefined;
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

/**
 * Signed requests to one bucket, one try of each: the signature is aws4fetch's, the connections are those of Node's `http`.
 * Answers below 500 other than 429 are returned, whatever they say; see `s3Error`.
 */
export class S3Client {
  readonly #config: S3Config;
  readonly #base: URL;
  readonly #agent: Agent | undefined;
  /** signing keys, which change once a day */
  readonly #keys = new Map<string, ArrayBuffer>();

  constructor(config: S3Config) {
    this.#config = config;
    const { endpoint = `https://s3.${config.region}.amazonaws.com`, bucket } = config;
    // The certificate for *.s3.REGION.amazonaws.com covers one label, so no bucket with a dot.
    const { pathStyle = config.endpoint !== undefined || bucket.includes(".") } = config;
    const base = new URL(endpoint.endsWith("/") ? endpoint : `${endpoint}/`);
    this.#base = pathStyle ? new URL(`${bucket}/`, base) : new URL(base.href.replace("://", `://${bucket}.`));
    this.#agent = config.ca === undefined ? undefined : agentTrusting(config.ca);
  }

  /**
   * @throws HobError `store_unavailable` for network errors, timeouts, 5xx and 429; `store_failed` when the two sides do not find to TLS; the
   *   reason of an aborted signal
   */
  async send(request: S3Request): Promise<HttpAnswer> {
    const timeout = AbortSignal.timeout(this.#config.timeoutMs ?? 60_000);
    const signal = request.signal === undefined ? timeout : AbortSignal.any([request.signal, timeout]);
    try {
      const answer = await this.#exchange(request, signal);
      if (answer.status >= 500 || answer.status === 429) throw s3Error(request, answer);
      return answer;
    } catch (cause) {
      if (request.signal?.aborted) throw request.signal.reason;
      if (cause instanceof HobError) throw cause;
      const { host } = this.#base;
      if (timeout.aborted) throw new HobError("store_unavailable", `the object store at ${host} did not answer in time`, { cause });
      throw connectionError(host, cause);
    }
  }

  async #exchange({ method, key, query, headers, body, maxBytes }: S3Request, signal: AbortSignal): Promise<HttpAnswer> {
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
    const signedHeaders = Object.fromEntries(signed.headers);
    return await exchange(signed.url, { method, headers: signedHeaders, body, maxBytes, signal, agent: this.#agent });
  }
}
