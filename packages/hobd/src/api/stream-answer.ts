import { toHobError } from "@hob/protocol";
import type { Context } from "hono";
import type { Logger } from "pino";
import { logError } from "./error-answer.ts";
import { clientGone, type Env } from "./routes.ts";

export interface StreamOptions {
  contentType: string;
  /** Whether the first piece comes without waiting for anything to happen: then a failure before it is answered as what it is. */
  waitsForFirst: boolean;
  log: Logger;
}

/**
 * Answers with what a source yields, until it ends or the client goes. HEAD is answered without beginning it: nobody would read it,
 * and it would wait for its reader for good. A stream that fails is cut, so that no client takes it for whole.
 * @param begin the signal is aborted when the client has gone
 * @throws what the source throws before its first piece, if that is waited for
 */
export async function answerWithStream(
  c: Context<Env>,
  begin: (gone: AbortSignal) => AsyncGenerator<Uint8Array | string>,
  { contentType, waitsForFirst, log }: StreamOptions,
): Promise<Response> {
  const headers = { "Content-Type": contentType };
  if (c.req.method === "HEAD") return c.body(null, 200, headers);
  const gone = clientGone(c);
  const source = begin(gone);
  const first = waitsForFirst ? await source.next() : undefined;
  async function* pieces(): AsyncGenerator<Buffer> {
    try {
      if (first?.done === false) yield Buffer.from(first.value);
      for await (const piece of source) yield Buffer.from(piece);
    } catch (error) {
      logError(log, toHobError(error), { method: c.req.method, path: c.req.path });
      c.env.outgoing.destroy();
    } finally {
      await source.return(undefined);
    }
  }
  return c.body(ReadableStream.from(pieces()) as ReadableStream, 200, headers);
}
