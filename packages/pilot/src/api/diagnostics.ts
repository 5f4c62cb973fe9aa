import { Readable } from "node:stream";
import type { CommandRunner } from "@hob/linux";
import { HobError } from "@hob/protocol";
import { Hono } from "hono";
import { z } from "zod";
import { CONTAINER_ID } from "../container/spec.ts";

const STREAM_LIMIT_BYTES = 1024 ** 3;
const CHUNK = Buffer.alloc(64 * 1024);

/**
 * Yardsticks inside the VM, against which `npm run bench` holds what a sprite's user gets:
 *
 * | route | meaning |
 * | --- | --- |
 * | POST …/diagnostics/crun-exec | runs `crun exec … true` once; `{"ms": number}` by the guest's clock |
 * | GET …/diagnostics/stream?bytes=N | N zero bytes as a plain body, at most 1 GiB |
 */
export function diagnostics(runner: CommandRunner, crunState: string): Hono {
  const app = new Hono();
  app.post("/diagnostics/crun-exec", async (c) => {
    const start = performance.now();
    await runner.run({ argv: ["crun", `--root=${crunState}`, "exec", CONTAINER_ID, "/bin/true"], timeoutMs: 30_000 });
    return c.json({ ms: performance.now() - start });
  });
  app.get("/diagnostics/stream", (c) => {
    const bytes = z.coerce.number().int().min(0).max(STREAM_LIMIT_BYTES).safeParse(c.req.query("bytes"));
    if (!bytes.success) throw new HobError("invalid_request", `diagnostics: parameter bytes: 0 to ${STREAM_LIMIT_BYTES} expected`);
    const body = Readable.toWeb(Readable.from(zeros(bytes.data))) as ReadableStream;
    return c.body(body, 200, { "Content-Type": "application/octet-stream", "Content-Length": String(bytes.data) });
  });
  return app;
}

function* zeros(bytes: number): Generator<Buffer> {
  for (let left = bytes; left > 0; left -= CHUNK.length) yield left < CHUNK.length ? CHUNK.subarray(0, left) : CHUNK;
}
