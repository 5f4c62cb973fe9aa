import type { IncomingMessage, ServerResponse } from "node:http";
import { EXEC_FRAMES_HEADER, FramePacer, LIMITS, PREFIXED, PrefixedFrameReader } from "@hob/protocol";

/** Whether an answer is an HTTP exec whose frames have their length ahead. */
export const hasPrefixedFrames = ({ headers }: IncomingMessage): boolean => headers[EXEC_FRAMES_HEADER] === PREFIXED;

/**
 * Passes the frames of an HTTP exec on, one HTTP chunk each, as clients take them. Reads the pilot no faster than the
 * client reads.
 *
 * @throws when either side goes away before the end
 */
export function relayExecFrames(answer: IncomingMessage, response: ServerResponse): Promise<void> {
  response.socket?.setNoDelay(true);
  return new Promise((resolve, reject) => {
    const frames = new FramePacer(response, () => answer.resume());
    const reader = new PrefixedFrameReader((stream, data) => frames.push(stream, data));
    const fail = (error: Error) => {
      response.destroy();
      reject(error);
    };
    answer.on("data", (chunk: Buffer) => {
      try {
        reader.push(chunk);
      } catch (error) {
        answer.destroy();
        return fail(error as Error);
      }
      if (frames.queuedBytes > LIMITS.outputHighWaterBytes) answer.pause();
    });
    answer.once("end", () => frames.end());
    answer.once("error", fail);
    answer.once("close", () => {
      if (!answer.complete) fail(new Error("the pilot's answer ended early"));
    });
    response.once("finish", resolve);
    response.once("close", () => {
      if (!response.writableFinished) reject(new Error("the client has gone"));
    });
  });
}
