import { request } from "node:http";
import { HobError } from "@hob/protocol";
import type { SpriteUses } from "../activity/use.ts";
import { identityOf } from "../api/present.ts";
import type { SpriteContext } from "../api/sprite-context.ts";
import type { SpriteRecord } from "../registry/registry.ts";
import type { PilotEndpoint } from "../runtime/sprite-runtime.ts";

/** Finds the way to a sprite's pilot, waking the sprite if need be. */
export type PilotLocator = (record: SpriteRecord) => Promise<PilotEndpoint>;

/** A sleeping sprite needs room to wake, as a new one does. The locator throws what the gate and the runtime throw. */
export const createPilotLocator =
  ({ runtime, gate, urlOf }: SpriteContext): PilotLocator =>
  async (record) => {
    const locate = () => runtime.endpoint(identityOf(record, urlOf), record.machine);
    if (runtime.status(record.id) === "running") return locate();
    using _ = await gate.reserve(record.id);
    return await locate();
  };

/** Sends a request, with JSON if there is any, to a pilot and gives its status; the answer's body is dropped. */
export type PilotRequester = (
  record: SpriteRecord,
  path: string,
  signal: AbortSignal,
  method?: "GET" | "POST",
  json?: object,
) => Promise<number>;

export const createPilotRequester =
  (locate: PilotLocator, uses: SpriteUses): PilotRequester =>
  async (record, path, signal, method = "GET", json) => {
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
        response.once("error", () => {}).resume();
        resolve(response.statusCode ?? 0);
      });
      outgoing.end(json === undefined ? undefined : JSON.stringify(json));
    });
  };

function withSignal<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    promise.then(resolve, reject);
  });
}
