import type { NetworkLogEntry, NetworkPolicy, PrivilegesPolicy, ResourcesPolicy } from "@hob/protocol/api/policies.ts";
import { call, callJson, type Endpoint, LONGEST_MS } from "./http.ts";
import { callLines } from "./ndjson.ts";

/** Milliseconds; a running sprite exchanges its resolver for a network policy, under emulation perhaps. */
const TIMEOUT_MS = 60_000;

export interface NetworkLogOptions {
  /** newest entries to begin with; default 1000 */
  tail?: number | undefined;
  /** go on with what happens from now on */
  follow?: boolean | undefined;
  signal?: AbortSignal;
}

/** Policies of one sprite. Reading and changing them does not wake it. */
export class SpritePoliciesClient {
  readonly #endpoint: Endpoint;
  readonly #path: string;

  /** @param path of the sprite's policies, `/v1/sprites/NAME/policy` */
  constructor(endpoint: Endpoint, path: string) {
    this.#endpoint = endpoint;
    this.#path = path;
  }

  network(): Promise<NetworkPolicy> {
    return this.#get("network");
  }

  /** In force when this resolves, if the sprite runs. @throws HobError `invalid_request` */
  setNetwork(policy: NetworkPolicy): Promise<void> {
    return this.#change("POST", "network", policy);
  }

  /** Decisions of the network policy, oldest first, until the signal ends them. A sleeping sprite is woken. */
  async *networkLog({ tail, follow, signal }: NetworkLogOptions = {}): AsyncGenerator<NetworkLogEntry, void, undefined> {
    const query = { tail: tail?.toString(), follow: follow === true ? "true" : undefined };
    try {
      yield* callLines<NetworkLogEntry>(this.#endpoint, "GET", `${this.#path}/network/log`, { query, signal, timeoutMs: LONGEST_MS });
    } catch (error) {
      if (!signal?.aborted) throw error;
    }
  }

  privileges(): Promise<PrivilegesPolicy> {
    return this.#get("privileges");
  }

  setPrivileges(policy: PrivilegesPolicy): Promise<void> {
    return this.#change("POST", "privileges", policy);
  }

  resetPrivileges(): Promise<void> {
    return this.#change("DELETE", "privileges");
  }

  resources(): Promise<ResourcesPolicy> {
    return this.#get("resources");
  }

  setResources(policy: ResourcesPolicy): Promise<void> {
    return this.#change("POST", "resources", policy);
  }

  resetResources(): Promise<void> {
    return this.#change("DELETE", "resources");
  }

  #get<T>(kind: string): Promise<T> {
    return callJson(this.#endpoint, "GET", `${this.#path}/${kind}`, { timeoutMs: TIMEOUT_MS });
  }

  async #change(method: "POST" | "DELETE", kind: string, body?: unknown): Promise<void> {
    await call(this.#endpoint, method, `${this.#path}/${kind}`, { timeoutMs: TIMEOUT_MS, ...(body === undefined ? {} : { body }) });
  }
}
