import { randomUUID } from "node:crypto";
import { Agent, type IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { HobError } from "@hob/protocol";
import { describeUse, type SpriteUses, type Use } from "../activity/use.ts";
import type { ReaderLease } from "../readers/reader-pool.ts";
import type { SpriteRecord } from "../registry/registry.ts";
import { Delivery } from "./delivery.ts";
import { hasBody } from "./headers.ts";
import type { PilotLocator } from "./pilot-locator.ts";
import { type Answer, LostAttempt } from "./try.ts";

/** How long a request waits for what is before it, milliseconds. */
export interface UpstreamTimes {
  /** for a pilot that is not there, or is being started */
  patienceMs: number;
  /** for a sign that it has arrived, until it is sent once more beside */
  repeatAfterMs: number;
}

/** A pilot that has ended is back within seconds, under emulation within half a minute; clients give up after 10 to 30 s. */
const TIMES: UpstreamTimes = { patienceMs: 30_000, repeatAfterMs: 2_000 };

/** Times a reader is asked at most: the sprite can be asked in its place. */
const READER_ATTEMPTS = 3;

/** Between two attempts; the second comes at once, since a kept connection may just have been closed. */
const PAUSE_MS = { first: 50, last: 500 } as const;

/** Milliseconds an idle connection to a pilot is kept: less than the pilot's own 5 s (Node's default). */
const IDLE_CONNECTION_MS = 4_000;

export interface UpstreamRequest {
  client: IncomingMessage;
  record: SpriteRecord;
  /** target at the pilot */
  path: string;
  upgrade: boolean;
  /** aborted when the client has gone */
  signal: AbortSignal;
  /** who is asked in place of the sprite, which then does not count as used */
  reader?: ReaderLease;
}

/**
 * Sends requests to pilots.
 *
 * A pilot that ends is started again in its VM, and a VM that has gone is started by the locator: a request waits for that,
 * as it does for a wake. It is sent again only when the lost attempt cannot have an effect twice. That a connection was
 * made says little: passt accepts for the pilot before the pilot does. So each request carries a name, which a pilot and its
 * successors take once (`protocol/src/pilot.ts`), and its body is sent when the pilot has taken it. GET and HEAD share
 * kept connections; everything else gets a connection of its own.
 */
export class Upstream implements Disposable {
  readonly #locate: PilotLocator;
  readonly #uses: SpriteUses;
  readonly #times: UpstreamTimes;
  readonly #agent = new Agent({ keepAlive: true, timeout: IDLE_CONNECTION_MS, maxFreeSockets: 8 });

  constructor(locate: PilotLocator, uses: SpriteUses, times: Partial<UpstreamTimes> = {}) {
    this.#locate = locate;
    this.#uses = uses;
    this.#times = { ...TIMES, ...times };
  }

  /**
   * The sprite counts as used from here on, until the answer or the upgraded connection has ended.
   * @throws HobError `pilot_unreachable` | what the locator throws
   */
  async send(request: UpstreamRequest): Promise<Answer> {
    const { client, record, path, upgrade, reader } = request;
    if (reader !== undefined) return whileHeld(reader, () => this.#sendUntilAnswered(request));
    return whileInUse(this.#uses, record.id, describeUse(client.method, path, upgrade), () => this.#sendUntilAnswered(request));
  }

  async #sendUntilAnswered(request: UpstreamRequest): Promise<Answer> {
    const id = randomUUID();
    let deadline = Number.POSITIVE_INFINITY;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#attempt(request, isSafe(request) ? randomUUID() : id, attempt === 1);
      } catch (error) {
        if (!(error instanceof LostAttempt)) throw error;
        if (attempt === 1) deadline = performance.now() + this.#times.patienceMs;
        const isLast = request.reader === undefined ? performance.now() > deadline : attempt === READER_ATTEMPTS;
        if (!error.repeatable || request.signal.aborted || isLast) throw unreachable(request.record, error);
      }
      if (attempt > 1) await pause(attempt, request.signal);
    }
  }

  /** @param kept whether a connection that was kept may do: one that a pilot has left may be one of several */
  async #attempt(request: UpstreamRequest, id: string, kept: boolean): Promise<Answer> {
    const { client, path, upgrade, signal, reader } = request;
    const endpoint = reader?.endpoint ?? (await this.#locate(request.record));
    return Delivery.run({
      message: { client, path, upgrade, id },
      endpoint,
      agent: isSafe(request) && kept ? this.#agent : false,
      isSafe: isSafe(request),
      signal,
      repeatAfterMs: this.#times.repeatAfterMs,
    });
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}

/** Whether it may happen more than once. */
const isSafe = ({ client, upgrade }: UpstreamRequest): boolean =>
  !upgrade && !hasBody(client) && (client.method === "GET" || client.method === "HEAD");

const pause = (attempt: number, signal: AbortSignal): Promise<void> =>
  sleep(Math.min(PAUSE_MS.last, PAUSE_MS.first * 2 ** (attempt - 2)), undefined, { signal }).catch(() => {});

/** Has a sprite count as used from now until the answer, or the connection that it opened, has ended. */
export function whileInUse(uses: SpriteUses, id: string, use: Use, send: () => Promise<Answer>): Promise<Answer> {
  return whileHeld(uses.begin(id, use), send);
}

/** Gives back what is held when the answer, or the connection that it opened, has ended. */
async function whileHeld(held: Disposable, send: () => Promise<Answer>): Promise<Answer> {
  const end = () => held[Symbol.dispose]();
  try {
    const answer = await send();
    (answer.kind === "upgrade" ? answer.socket : answer.response).once("close", end);
    return answer;
  } catch (error) {
    end();
    throw error;
  }
}

const unreachable = (record: SpriteRecord, error: Error): HobError =>
  new HobError("pilot_unreachable", `reach the pilot of sprite ${record.name}: no answer`, {
    hint: "try again; if it stays so, restart the sprite",
    cause: error,
  });
