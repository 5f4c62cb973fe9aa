import { Agent, type IncomingMessage } from "node:http";
import { describeUse, type SpriteUses, type Use } from "../activity/use.ts";
import type { ReaderLease } from "../readers/reader-pool.ts";
import type { SpriteRecord } from "../registry/registry.ts";
import type { PilotEndpoint } from "../runtime/sprite-runtime.ts";
import { Attempts } from "./attempts.ts";
import { Delivery } from "./delivery.ts";
import { hasBody } from "./headers.ts";
import type { PilotLocator } from "./pilot-locator.ts";
import type { Answer } from "./try.ts";

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
 * successors take once (`protocol/src/pilot.ts`), and its body is sent when the pilot has taken it. The names are in the VM's
 * memory: one that boots anew knows none of them, and is not sent what the last one may have taken. Safe methods share
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
   * @throws HobError `pilot_unreachable`, `outcome_unknown` | what the locator throws
   */
  async send(request: UpstreamRequest): Promise<Answer> {
    const { client, record, path, upgrade, reader } = request;
    if (reader !== undefined) return whileHeld(reader, () => this.#sendUntilAnswered(request));
    return whileInUse(this.#uses, record.id, describeUse(client.method, path, upgrade), () => this.#sendUntilAnswered(request));
  }

  async #sendUntilAnswered(request: UpstreamRequest): Promise<Answer> {
    const { record, reader, signal } = request;
    const bound = reader === undefined ? { patienceMs: this.#times.patienceMs } : { count: READER_ATTEMPTS };
    const attempts = new Attempts({ record, isSafe: isSafe(request), bound, signal });
    for (;;) {
      const endpoint = reader?.endpoint ?? (await attempts.locate(this.#locate));
      try {
        const answer = await this.#attempt(request, endpoint, attempts);
        if (reader === undefined && answer.kind === "response" && answer.isDoubtful)
          await attempts.requireThere(this.#locate, answer.response);
        return answer;
      } catch (error) {
        await attempts.next(error);
      }
    }
  }

  #attempt(request: UpstreamRequest, endpoint: PilotEndpoint, { name: id, isFirst }: Attempts): Promise<Answer> {
    const { client, path, upgrade, signal } = request;
    return Delivery.run({
      message: { client, path, upgrade, id },
      endpoint,
      // A connection that was kept and that a pilot has left may be one of several.
      agent: isSafe(request) && isFirst ? this.#agent : false,
      isSafe: isSafe(request),
      signal,
      repeatAfterMs: this.#times.repeatAfterMs,
    });
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}

/** Of methods that only read (RFC 9110 section 9.2.1), those that a pilot has. An upgrade is a GET that may start a command. */
const SAFE_METHODS: ReadonlySet<string | undefined> = new Set(["GET", "HEAD", "OPTIONS"]);

/** Whether it may happen more than once. */
const isSafe = ({ client, upgrade }: UpstreamRequest): boolean => !upgrade && !hasBody(client) && SAFE_METHODS.has(client.method);

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
