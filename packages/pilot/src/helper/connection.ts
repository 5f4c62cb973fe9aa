import { connect, type Socket } from "node:net";
import { HobError } from "@hob/protocol";
import { type Frame, FrameDecoder } from "./frames.ts";
import { SERVER_FRAME } from "./wire.ts";

/** Time to reach the helper; it is local and resident, so anything longer is a fault. */
const CONNECT_TIMEOUT_MS = 5_000;

/**
 * @param allowHalfOpen whether this side still sends after the helper has ended its own
 * @throws HobError `helper_unreachable`
 */
export function connectHelper(socketPath: string, allowHalfOpen = false): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path: socketPath, allowHalfOpen });
    const timer = setTimeout(() => socket.destroy(new Error(`no answer in ${CONNECT_TIMEOUT_MS} ms`)), CONNECT_TIMEOUT_MS);
    const onError = (error: Error) => {
      clearTimeout(timer);
      reject(
        new HobError("helper_unreachable", `connect to the helper at ${socketPath}: ${error.message}`, {
          hint: "repeat the request; init restarts the helper",
          cause: error,
        }),
      );
    };
    socket.once("error", onError);
    socket.once("connect", () => {
      clearTimeout(timer);
      // Whoever uses the socket learns of its end by `close`; an error that nobody listens to would end the pilot.
      socket.off("error", onError).on("error", () => {});
      resolve(socket);
    });
  });
}

/** An ERROR frame as an error. `errno` is the positive number of errno(3). */
export function helperError(payload: Buffer): HobError {
  const errno = payload.length >= 4 ? payload.readUInt32LE(0) : 0;
  return new HobError("helper_failed", payload.toString("utf8", 4), { details: { errno } });
}

/**
 * Sends one request and gives its first answer frame. The socket stays paused and open; what follows the answer is left
 * in the decoder.
 * @throws HobError `helper_unreachable` | `helper_failed` | `timeout`; the socket is destroyed then
 */
export async function firstAnswer(socket: Socket, request: Buffer, timeoutMs: number): Promise<{ frame: Frame; decoder: FrameDecoder }> {
  const decoder = new FrameDecoder();
  socket.write(request);
  try {
    const frame = await nextFrame(socket, decoder, timeoutMs);
    if (frame.type === SERVER_FRAME.error) throw helperError(frame.payload);
    return { frame, decoder };
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** The next frame of a socket that nobody else reads; paused again afterwards. */
export function nextFrame(socket: Socket, decoder: FrameDecoder, timeoutMs: number): Promise<Frame> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => finish(new HobError("timeout", `helper: no answer in ${timeoutMs} ms`)), timeoutMs);
    const finish = (result: Frame | HobError) => {
      clearTimeout(timer);
      socket.pause();
      socket.off("data", onData).off("error", onError).off("end", onClose).off("close", onClose);
      if (result instanceof HobError) reject(result);
      else resolve(result);
    };
    const onData = (chunk: Buffer) => {
      try {
        decoder.push(chunk);
        const frame = decoder.next();
        if (frame !== undefined) finish(frame);
      } catch (error) {
        finish(error as HobError);
      }
    };
    const onError = (error: Error) => finish(new HobError("helper_unreachable", `helper: ${error.message}`, { cause: error }));
    const onClose = () => finish(new HobError("helper_unreachable", "helper: the connection ended without an answer"));
    if (socket.destroyed || socket.readableEnded) return onClose();
    // The end of a helper that died: a socket that may stay half open is not closed by it.
    socket.on("data", onData).once("error", onError).once("end", onClose).once("close", onClose).resume();
  });
}
