import { type IncomingMessage, request } from "node:http";
import { HobError, isErrorCode } from "@hob/protocol";
import { z } from "zod";
import type { SpriteUses } from "../activity/use.ts";
import { identityOf } from "../api/present.ts";
import { type SpriteContext, spriteNotFound } from "../api/sprite-context.ts";
import { readBody } from "../object-store/body.ts";
import type { SpriteRecord } from "../registry/registry.ts";
import { withSignal } from "../runtime/bounded.ts";
import type { SpriteEndpoint } from "../runtime/sprite-runtime.ts";

/**
 * Finds the way to a sprite's pilot, waking the sprite if need be.
 * @param bootId only the VM with the memory of this boot will do, see SpriteRuntime
 */
export type PilotLocator = (record: SpriteRecord, bootId?: string) => Promise<SpriteEndpoint>;

/** A sleeping sprite needs room to wake, as a new one does. The locator throws what the gate and the runtime throw. */
export const createPilotLocator =
  ({ runtime, gate, sprites, urlOf }: SpriteContext): PilotLocator =>
  async (record, bootId) => {
    const locate = () => runtime.endpoint(identityOf(record, urlOf), record.machine, bootId);
    if (runtime.status(record.id) === "running") return locate();
    using _ = await gate.reserve(record.id);
    // It may have been destroyed meanwhile, and would be fetched from the object store while it is removed from there.
    if ((await sprites.findById(record.id))?.state !== "ready") throw spriteNotFound(record.name);
    return await locate();
  };

/** What a pilot answered: its status, and what it says of a refusal. */
export interface PilotAnswer {
  status: number;
  refusal?: HobError;
}

/** Of a body that says why something is refused; of all others nothing is kept. */
const REFUSAL_BYTES_MAX = 16 * 1024;

/** Sends a request, with JSON if there is any, to a pilot; the body of an answer is read only when it is a refusal. */
export type PilotRequester = (
  record: SpriteRecord,
  path: string,
  signal: AbortSignal,
  method?: "GET" | "POST",
  json?: object,
) => Promise<PilotAnswer>;

export const createPilotRequester =
  (locate: PilotLocator, uses: SpriteUses): PilotRequester =>
  async (record, path, signal, method = "GET", json) => {
    // What nobody waits for any more must not wake a sprite.
    signal.throwIfAborted();
    // The sprite must not fall asleep under it; but whoever watches over a sprite does not keep it awake.
    using _ = uses.begin(record.id, { kind: "check", label: `${method} ${path}`, holds: true, counts: false });
    const { host, port, token } = await withSignal(locate(record), signal);
    return await new Promise((resolve, reject) => {
      const outgoing = request({ host, port, path, method, signal, agent: false, headers: { Authorization: `Bearer ${token}` } });
      const fail = (what: string, cause?: Error) =>
        reject(new HobError("pilot_unreachable", `reach the pilot of sprite ${record.name}: ${what}`, { cause }));
      outgoing.once("error", (error) => fail("no answer", error));
      // Node.js then only closes the connection: there is neither an answer nor an error.
      outgoing.once("upgrade", (_answer, socket) => {
        socket.destroy();
        fail("it changed the protocol unasked");
      });
      outgoing.once("response", (response) => {
        const status = response.statusCode ?? 0;
        if (status >= 400) return void refusalOf(response).then((refusal) => resolve({ status, ...(refusal && { refusal }) }));
        response.once("error", () => {}).resume();
        resolve({ status });
      });
      outgoing.end(json === undefined ? undefined : JSON.stringify(json));
    });
  };

/** The peer is a guest: what it says is taken only when it has the form of an error, and is bounded. */
async function refusalOf(response: IncomingMessage): Promise<HobError | undefined> {
  try {
    const { error, message, hint } = refusal.parse(JSON.parse((await readBody(response, REFUSAL_BYTES_MAX)).toString()));
    return isErrorCode(error) ? new HobError(error, message, hint === undefined ? {} : { hint }) : undefined;
  } catch {
    return undefined;
  } finally {
    response.destroy();
  }
}

const refusal = z.object({ error: z.string(), message: z.string().max(2_000), hint: z.string().max(2_000).optional() });
