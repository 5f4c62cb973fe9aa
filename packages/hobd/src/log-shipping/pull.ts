import { request } from "node:http";
import { LOG_PULL_LIMITS, type LogCursor, type LogsPullResponse, logsPullResponse, PILOT_ROUTES } from "@hob/protocol";
import type { PilotEndpoint } from "../runtime/sprite-runtime.ts";

/** Beyond the time that the pilot may wait for something to be written. */
const ANSWER_TIMEOUT_MS = 10_000;

/**
 * Asks a pilot for what its services wrote since a cursor. The answer comes from a guest and is taken for hostile: its
 * size is bounded, its shape checked.
 */
export async function pullLogs({ host, port, token }: PilotEndpoint, cursor: LogCursor, signal: AbortSignal): Promise<LogsPullResponse> {
  const waitMs = LOG_PULL_LIMITS.waitMs;
  const body = JSON.stringify({ cursor, waitMs });
  const deadline = AbortSignal.timeout(waitMs + ANSWER_TIMEOUT_MS);
  const text = await new Promise<string>((resolve, reject) => {
    const outgoing = request({
      host,
      port,
      method: "POST",
      path: PILOT_ROUTES.logs,
      agent: false,
      signal: AbortSignal.any([signal, deadline]),
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json", "content-length": Buffer.byteLength(body) },
    });
    outgoing.once("error", reject);
    // Node.js then only closes the connection: there is neither an answer nor an error, and the shipper would wait for ever.
    outgoing.once("upgrade", (_answer, socket) => {
      socket.destroy();
      reject(new Error("the pilot changed the protocol unasked"));
    });
    outgoing.once("response", (answer) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      answer.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > LOG_PULL_LIMITS.answerBytes) outgoing.destroy(new Error("the pilot's answer is too long"));
        else chunks.push(chunk);
      });
      answer.once("error", reject);
      answer.once("end", () => {
        if (answer.statusCode === 200) resolve(Buffer.concat(chunks).toString("utf8"));
        else reject(new Error(`the pilot answered with status ${answer.statusCode}`));
      });
    });
    outgoing.end(body);
  });
  return logsPullResponse.parse(JSON.parse(text));
}
