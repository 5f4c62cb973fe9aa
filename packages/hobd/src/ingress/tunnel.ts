import { request as httpRequest, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { HobError, isErrorCode, PILOT_ROUTES, TUNNEL_PROTOCOL } from "@hob/protocol";
import type { PilotLocator } from "../front-door/pilot-locator.ts";
import type { SpriteRecord } from "../registry/registry.ts";
import type { PilotEndpoint } from "../runtime/sprite-runtime.ts";

/**
 * Milliseconds in which a pilot must have said that the request has arrived, for each try: what lies before a pilot
 * loses a connection now and then, most of all when a VM has just woken. Opening has no effect by itself, so a lost try
 * is repeated, through the locator, which starts a VM that has gone.
 */
const ARRIVAL_TIMEOUTS_MS = [3_000, 6_000, 15_000];
/** A service that is started for the connection has 10 s; under emulation everything takes longer. */
const ANSWER_TIMEOUT_MS = 30_000;
const REFUSAL_BYTES_MAX = 16 * 1024;

/** The pilot could not be asked, as opposed to: it said no. */
class LostTunnel extends Error {}

/**
 * Opens a connection to what answers a sprite's URL, waking the sprite if need be.
 * @throws HobError `nothing_listens`, … as the pilot says | `pilot_unreachable` | what the locator throws
 */
export async function openTunnel(locate: PilotLocator, record: SpriteRecord): Promise<Socket> {
  let lost: unknown;
  for (const timeoutMs of ARRIVAL_TIMEOUTS_MS) {
    try {
      return await ask(record, await locate(record), timeoutMs);
    } catch (error) {
      if (!(error instanceof LostTunnel)) throw error;
      lost = error;
    }
  }
  throw new HobError("pilot_unreachable", `reach the pilot of sprite ${record.name}: no answer`, {
    hint: "try again; if it stays so, restart the sprite",
    cause: lost,
  });
}

function ask(record: SpriteRecord, { host, port, token }: PilotEndpoint, timeoutMs: number): Promise<Socket> {
  const outgoing = httpRequest({
    host,
    port,
    path: PILOT_ROUTES.ingress,
    agent: false,
    headers: { Authorization: `Bearer ${token}`, Connection: "Upgrade", Upgrade: TUNNEL_PROTOCOL },
  });
  return new Promise((resolve, reject) => {
    let timer = setTimeout(() => outgoing.destroy(new Error("not arrived in time")), timeoutMs);
    const settle = (end: () => void) => {
      clearTimeout(timer);
      end();
    };
    outgoing.once("socket", (socket) => socket.setNoDelay(true));
    outgoing.once("information", () => {
      clearTimeout(timer);
      timer = setTimeout(() => outgoing.destroy(new Error("no answer in time")), ANSWER_TIMEOUT_MS);
    });
    outgoing.on("error", (error) => settle(() => reject(new LostTunnel(error.message, { cause: error }))));
    outgoing.once("upgrade", (_response, socket, head) => {
      if (head.length > 0) socket.unshift(head);
      settle(() => resolve(socket));
    });
    outgoing.once("response", (response) => settle(() => void refusal(response, record).then(reject, reject)));
    outgoing.end();
  });
}

/** Why the pilot said no. Its words are a guest's: they are shown as text and nothing else. */
async function refusal(response: IncomingMessage, record: SpriteRecord): Promise<HobError> {
  let text = "";
  try {
    for await (const chunk of response) {
      text += chunk;
      if (text.length > REFUSAL_BYTES_MAX) break;
    }
    const { error, message, hint } = JSON.parse(text) as Record<string, unknown>;
    if (typeof error === "string" && isErrorCode(error) && error !== "not_found" && error !== "unauthorized") {
      return new HobError(error, String(message ?? error), typeof hint === "string" ? { hint } : {});
    }
  } catch {
    // Not an answer of a pilot that has this route.
  }
  return new HobError("pilot_unreachable", `open the URL of sprite ${record.name}: its pilot answered with ${response.statusCode}`, {
    hint: "a sprite that runs since before an update of Hob learns this when it restarts",
  });
}
