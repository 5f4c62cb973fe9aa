import type { Readable } from "node:stream";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { HobError } from "@hob/protocol/errors.ts";
import type { Cli } from "../cli.ts";

/**
 * Writes what the daemon sends to standard output, as it comes.
 * @param what is being written, for a message: "export web"
 * @param onBytes told how many more there are
 * @throws HobError `connection_lost` when the daemon breaks off: it ends the connection when it cannot go on, since nothing else would
 *   keep what there is from passing for whole
 */
export async function pipeOut(cli: Cli, source: Readable, what: string, onBytes: (count: number) => void = () => {}): Promise<void> {
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      onBytes(chunk.length);
      done(null, chunk);
    },
  });
  await pipeline(source, counter, cli.stdout, { end: false }).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== "ECONNRESET") throw cause;
    throw new HobError("connection_lost", `${what}: the daemon broke off in the middle`, {
      hint: "what is there so far is not whole: remove it, and see the daemon's log, or try again",
      cause,
    });
  });
}
