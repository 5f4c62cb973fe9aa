import type { ClientRequest, IncomingMessage } from "node:http";
import { HobError } from "@hob/protocol/errors.ts";
import { LIMITS } from "@hob/protocol/limits.ts";
import { WebSocket } from "ws";
import { connectionError, errorFromAnswer } from "./errors.ts";
import { authorization, type Endpoint, requestTarget } from "./http.ts";

/** Bytes read of the body of a refused upgrade; an error body is far smaller. */
const REFUSAL_BYTES_MAX = 64 * 1024;

/**
 * Opens a WebSocket. It comes back paused, so that no frame is lost before listeners are there: call resume().
 * @param what names the operation in errors
 * @throws HobError what the server said when it refused, or `cannot_connect` | `connection_lost` | `timeout`
 */
export function dial(endpoint: Endpoint, path: string, query: URLSearchParams, timeoutMs: number, what = "exec"): Promise<WebSocket> {
  const target = `${requestTarget(endpoint, path)}${query.size === 0 ? "" : `?${query}`}`;
  if (target.length > LIMITS.requestTargetBytes) {
    throw new HobError(
      "invalid_request",
      `exec: command and environment take ${target.length} bytes, at most ${LIMITS.requestTargetBytes} fit`,
      {
        hint: "pass long input on standard input",
      },
    );
  }
  const scheme = endpoint.url.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(`${scheme}//${endpoint.url.host}${target}`, {
    headers: authorization(endpoint),
    handshakeTimeout: timeoutMs,
    maxPayload: LIMITS.webSocketMessageBytes,
    perMessageDeflate: false,
    followRedirects: false,
  });
  return new Promise((resolve, reject) => {
    const fail = (error: HobError): void => {
      socket.on("error", () => {});
      socket.terminate();
      reject(error);
    };
    // ws reads the upgrade's head before "open"; pausing there is before the first message can be emitted.
    socket.once("open", () => {
      socket.pause();
      socket.removeAllListeners();
      resolve(socket);
    });
    socket.once("error", (error) => fail(dialError(endpoint, timeoutMs, error, what)));
    socket.once("unexpected-response", (request: ClientRequest, response: IncomingMessage) => {
      void readRefusal(response).then((body) => {
        request.destroy();
        fail(errorFromAnswer(what, response.statusCode ?? 0, body));
      });
    });
  });
}

function dialError(endpoint: Endpoint, timeoutMs: number, error: Error, what: string): HobError {
  if (error.message.includes("handshake has timed out")) {
    return new HobError("timeout", `${what}: no answer within ${timeoutMs / 1000} s`, {
      hint: "the daemon's log says what it is doing",
      cause: error,
    });
  }
  return connectionError(what, endpoint.url.origin, error);
}

async function readRefusal(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response) {
      chunks.push(chunk as Buffer);
      bytes += (chunk as Buffer).length;
      if (bytes > REFUSAL_BYTES_MAX) break;
    }
  } catch {
    // What came before the connection broke is the best there is.
  }
  return Buffer.concat(chunks).toString("utf8");
}
