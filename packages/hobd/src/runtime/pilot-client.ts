import { randomBytes } from "node:crypto";
import { networkInterfaces } from "node:os";
import {
  FREEZE_LIMITS,
  type FreezeResponse,
  freezeResponse,
  HobError,
  type Identity,
  PILOT_PROTOCOL_VERSION,
  PILOT_ROUTES,
  type PilotActivity,
  type PrepareSleepRequest,
  type PrepareSleepResponse,
  pilotActivity,
  prepareSleepResponse,
  type ResumedRequest,
  readyResponse,
  type SettleRequest,
  type SettleResponse,
  type SpritePolicies,
  settleResponse,
} from "@hob/protocol";
import type { z } from "zod";

const REQUEST_TIMEOUT_MS = 15_000;
const ATTACH_TIMEOUT_MS = 180_000;
/** A pilot that does not answer must not keep its sprite from being saved. */
const FREEZE_TIMEOUT_MS = 2_000;
/** The resolver is exchanged for it. */
const POLICIES_TIMEOUT_MS = 25_000;
const ACTIVITY_TIMEOUT_MS = 5_000;
/** What comes from a guest is read up to here. */
const ANSWER_BYTES_MAX = 1024 * 1024;
/** This version and the one before. */
const SPOKEN_PROTOCOLS: readonly number[] = [PILOT_PROTOCOL_VERSION, PILOT_PROTOCOL_VERSION - 1];

/** All that is used of the answer: older pilots may say less than this one. */
const ready = readyResponse.pick({ protocol: true, containerFailure: true });
type Ready = z.infer<typeof ready>;

/** What `resumed` says of the object store. */
export type ResumedStorage = Pick<ResumedRequest, "storage" | "start" | "history">;

/** hobd's own calls to one pilot, over the port that leads into its VM. */
export class PilotClient {
  readonly #base: string;
  #token: string;

  constructor(port: number, token: string) {
    this.#base = `http://127.0.0.1:${port}`;
    this.#token = token;
  }

  /** Waits until the pilot answers and its inner container runs. `alive` ends the wait early when the VM is gone. */
  async waitUntilReady(timeoutMs: number, alive: () => boolean): Promise<Ready> {
    return this.#retry(timeoutMs, alive, "wait for the pilot", async () => {
      const answer = readAnswer(await this.#request("GET", PILOT_ROUTES.ready, undefined, 5_000), ready, "wait for the pilot");
      if (!SPOKEN_PROTOCOLS.includes(answer.protocol)) {
        throw new HobError(
          "pilot_unreachable",
          `talk to the pilot: it speaks protocol ${answer.protocol}, this daemon ${SPOKEN_PROTOCOLS.join(" and ")}`,
        );
      }
      return answer;
    });
  }

  /** The first request after a restore: fresh randomness, the right time, and who this sprite is. */
  async resumed(identity: Identity, storage: ResumedStorage, timeoutMs: number, alive: () => boolean): Promise<void> {
    await this.#retry(timeoutMs, alive, "tell the pilot that it was restored", async () => {
      const entropy = randomBytes(64).toString("base64");
      const body: ResumedRequest = { entropy, wallclockMs: Date.now(), identity, hostAddresses: hostAddresses(), ...storage };
      await this.#request("POST", PILOT_ROUTES.resumed, body, 5_000);
    });
    this.#token = identity.pilotToken;
  }

  /** Has the pilot put the sprite of the object store in place of the template's. It may have to read much of it. */
  async attach(): Promise<void> {
    await this.#request("POST", PILOT_ROUTES.attach, {}, ATTACH_TIMEOUT_MS);
  }

  /** They are in force when this resolves. */
  async applyPolicies(policies: SpritePolicies): Promise<void> {
    await this.#request("POST", PILOT_ROUTES.policies, policies, POLICIES_TIMEOUT_MS);
  }

  /** The user's processes stop until `thaw` or the next `resumed`. @returns what the sprite has then; undefined: an older pilot does not say */
  async freeze(): Promise<FreezeResponse | undefined> {
    const how = { bytesMax: FREEZE_LIMITS.answerBytes };
    const response = await this.#request("POST", PILOT_ROUTES.freeze, {}, FREEZE_TIMEOUT_MS, how);
    return response.status === 204 ? undefined : readAnswer(response, freezeResponse, "stop the user's processes");
  }

  async thaw(): Promise<void> {
    await this.#request("POST", PILOT_ROUTES.thaw, {}, REQUEST_TIMEOUT_MS);
  }

  async prepareSave(): Promise<void> {
    await this.#request("POST", PILOT_ROUTES.prepareSave, {}, REQUEST_TIMEOUT_MS);
  }

  /** What keeps the sprite awake from inside. A pilot of protocol 1 does not know: nothing does, as far as it can tell. */
  async activity(): Promise<PilotActivity> {
    const answer = await this.#request("GET", PILOT_ROUTES.activity, undefined, ACTIVITY_TIMEOUT_MS, { accepted: [404] });
    if (answer.status === 404) return { holders: [], idleMs: 0 };
    return readAnswer(answer, pilotActivity, "ask what keeps the sprite awake");
  }

  /** Asks once more whether the sprite may sleep; when it may, all is on its disk. */
  async prepareSleep(request: PrepareSleepRequest): Promise<PrepareSleepResponse> {
    const answer = await this.#request("POST", PILOT_ROUTES.prepareSleep, request, REQUEST_TIMEOUT_MS, { accepted: [404] });
    if (answer.status !== 404) return readAnswer(answer, prepareSleepResponse, "ask whether the sprite may sleep");
    await this.prepareSave();
    return { ready: true, holders: [], idleMs: request.idleMs };
  }

  /** Has the pilot keep what was changed if the sprite may sleep; only one that has said `unsettled` knows of that. */
  async settle(request: SettleRequest): Promise<SettleResponse> {
    const timeoutMs = request.waitMs + REQUEST_TIMEOUT_MS;
    const response = await this.#request("POST", PILOT_ROUTES.settle, request, timeoutMs);
    return readAnswer(response, settleResponse, "have the sprite keep what was changed");
  }

  /** Has the pilot end the container, detach the volume and power off; does not wait for that. */
  async shutdown(): Promise<void> {
    await this.#request("POST", PILOT_ROUTES.shutdown, {}, ACTIVITY_TIMEOUT_MS);
  }

  /** The whole exchange, so that no answer keeps its connection. @throws HobError `pilot_unreachable` */
  async #request(method: string, path: string, body: unknown, timeoutMs: number, how: Expected = {}): Promise<Answer> {
    const what = `${method} ${path}`;
    const { accepted = [], bytesMax = ANSWER_BYTES_MAX } = how;
    try {
      const response = await fetch(this.#base + path, {
        method,
        headers: { authorization: `Bearer ${this.#token}`, "content-type": "application/json", connection: "close" },
        signal: AbortSignal.timeout(timeoutMs),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const { status } = response;
      const text = await boundedText(response, bytesMax, what);
      if (response.ok || accepted.includes(status)) return { status, text };
      throw new HobError("pilot_unreachable", `${what}: the pilot answered ${status}`);
    } catch (cause) {
      if (cause instanceof HobError) throw cause;
      throw new HobError("pilot_unreachable", `${what}: no good answer of the pilot`, { cause });
    }
  }

  async #retry<T>(timeoutMs: number, alive: () => boolean, what: string, attempt: () => Promise<T>): Promise<T> {
    const deadline = performance.now() + timeoutMs;
    let delayMs = 5;
    for (;;) {
      try {
        return await attempt();
      } catch (cause) {
        if (!alive()) throw new HobError("vm_failed", `${what}: the VM has ended`, { cause });
        if (performance.now() > deadline) throw new HobError("pilot_unreachable", `${what}: no good answer in ${timeoutMs} ms`, { cause });
      }
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      delayMs = Math.min(delayMs * 1.5, 200);
    }
  }
}

/** What is taken for an answer, besides a success of an ordinary size. */
interface Expected {
  accepted?: readonly number[];
  bytesMax?: number;
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

/** @throws HobError `pilot_unreachable` for one that is too long */
async function boundedText(response: Response, bytesMax: number, what: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > bytesMax) throw new HobError("pilot_unreachable", `${what}: the answer is too long`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Reads an answer as what is expected and nothing else: it comes out of a guest. @throws HobError `pilot_unreachable` */
function readAnswer<T>({ text }: Answer, schema: z.ZodType<T>, what: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new HobError("pilot_unreachable", `${what}: the answer is not understood`, { cause });
  }
}

/** IPv4 addresses of this machine on which a server that listens on all of them is reached; sorted. */
function hostAddresses(): string[] {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return [...new Set(all.filter(({ family, internal }) => family === "IPv4" && !internal).map(({ address }) => address))].sort();
}
