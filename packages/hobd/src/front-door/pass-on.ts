import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { splice } from "./splice.ts";
import type { Answer } from "./try.ts";

/** Asks with a signal that is aborted when the client goes before there is an answer. */
export async function whileClientWaits<T>(response: ServerResponse, ask: (gone: AbortSignal) => Promise<T>): Promise<T> {
  const gone = new AbortController();
  const abort = () => gone.abort();
  response.once("close", abort);
  const answer = await ask(gone.signal);
  response.off("close", abort);
  return answer;
}

/** A stream cut by either side: the other side has been cut too, and there is nobody left to tell. */
export const isCut = (response: ServerResponse): boolean =>
  response.headersSent || response.destroyed || response.socket?.destroyed !== false;

/**
 * Streams the answer to the client, whose headers are written already. They go first: a stream may have no byte of body
 * for a long time.
 */
export async function passOn(
  { request, response: answer }: Extract<Answer, { kind: "response" }>,
  response: ServerResponse,
  relay: (answer: IncomingMessage, response: ServerResponse) => Promise<void> = pipeline,
): Promise<void> {
  response.flushHeaders();
  try {
    await relay(answer, response);
  } finally {
    if (!answer.complete) request.destroy();
  }
}

/**
 * Sends the 101 with these headers, then joins the sockets, beginning with what either side sent early.
 * @param head what the client sent early
 */
export async function joinUpgraded(
  { socket: inside, head: early }: Extract<Answer, { kind: "upgrade" }>,
  client: Duplex,
  head: Buffer,
  headers: readonly string[],
): Promise<void> {
  inside.on("error", () => inside.destroy());
  const lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket"];
  for (let i = 0; i + 1 < headers.length; i += 2) lines.push(`${headers[i]}: ${headers[i + 1]}`);
  client.write(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
  if (early.length > 0) client.write(early);
  if (head.length > 0) inside.write(head);
  await splice(client, inside);
}
