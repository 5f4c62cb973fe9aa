import type { Service, ServiceEvent, serviceRequest } from "@hob/protocol/api/services.ts";
import type { z } from "zod";
import { call, callJson, type Endpoint } from "./http.ts";
import { callLines } from "./ndjson.ts";

/** A request may have to wake the sprite first; a stop may take its whole grace time. */
const TIMEOUT_MS = { plain: 60_000, remove: 90_000, begin: 60_000 } as const;

export type ServiceRequest = z.input<typeof serviceRequest>;
export type ServiceEvents = AsyncGenerator<ServiceEvent, void, undefined>;

export interface LogOptions {
  /** the newest lines only */
  lines?: number | undefined;
  /** how long to go on, a duration such as `1h`; default: not at all */
  duration?: string | undefined;
  signal?: AbortSignal | undefined;
}

/** The services of one sprite. Streams begin when they are first read from. */
export class ServicesClient {
  readonly #endpoint: Endpoint;
  readonly #path: string;

  /** @param spritePath such as `/v1/sprites/web` */
  constructor(endpoint: Endpoint, spritePath: string) {
    this.#endpoint = endpoint;
    this.#path = `${spritePath}/services`;
  }

  list(): Promise<Service[]> {
    return callJson(this.#endpoint, "GET", this.#path, { timeoutMs: TIMEOUT_MS.plain });
  }

  get(service: string): Promise<Service> {
    return callJson(this.#endpoint, "GET", this.#pathOf(service), { timeoutMs: TIMEOUT_MS.plain });
  }

  /** Defines or replaces a service and starts it. @param duration how long its output is shown, such as `5s` */
  put(service: string, request: ServiceRequest, duration?: string): ServiceEvents {
    return callLines(this.#endpoint, "PUT", this.#pathOf(service), {
      body: request,
      query: { duration },
      answerTimeoutMs: TIMEOUT_MS.begin,
    });
  }

  start(service: string, duration?: string): ServiceEvents {
    return this.#act(service, "start", { duration });
  }

  /** @param timeout from SIGTERM to SIGKILL, such as `10s` */
  stop(service: string, timeout?: string): ServiceEvents {
    return this.#act(service, "stop", { timeout });
  }

  restart(service: string, duration?: string): ServiceEvents {
    return this.#act(service, "restart", { duration });
  }

  async signal(service: string, signal: string): Promise<void> {
    await call(this.#endpoint, "POST", `${this.#path}/signal`, { body: { name: service, signal }, timeoutMs: TIMEOUT_MS.plain });
  }

  async delete(service: string): Promise<void> {
    await call(this.#endpoint, "DELETE", this.#pathOf(service), { timeoutMs: TIMEOUT_MS.remove });
  }

  logs(service: string, { lines, duration, signal }: LogOptions = {}): ServiceEvents {
    const query = { lines: lines === undefined ? undefined : String(lines), duration };
    return callLines(this.#endpoint, "GET", `${this.#pathOf(service)}/logs`, { query, signal, answerTimeoutMs: TIMEOUT_MS.begin });
  }

  #act(service: string, action: string, query: Record<string, string | undefined>): ServiceEvents {
    return callLines(this.#endpoint, "POST", `${this.#pathOf(service)}/${action}`, { query, answerTimeoutMs: TIMEOUT_MS.begin });
  }

  #pathOf(service: string): string {
    return `${this.#path}/${encodeURIComponent(service)}`;
  }
}
