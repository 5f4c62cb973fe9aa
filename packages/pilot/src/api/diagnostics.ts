import { rm } from "node:fs/promises";
import { Readable } from "node:stream";
import type { CommandRunner } from "@hob/linux";
import { HobError } from "@hob/protocol";
import { diskMeterAnswer, diskMeterRequest } from "@hob/protocol/api/daemon.ts";
import { Hono } from "hono";
import { z } from "zod";
import { CONTAINER_ID } from "../container/spec.ts";
import type { ThinVolume } from "../volume/thin-volume.ts";
import { readJson } from "./json-body.ts";

const STREAM_LIMIT_BYTES = 1024 ** 3;
const CHUNK = Buffer.alloc(64 * 1024);

const DISK_TIMEOUT_MS = 120_000;

/** `native/hob-disk-meter.c` */
export interface DiskMeter {
  program: string;
  /** what it reads and writes */
  file: string;
}

/**
 * Yardsticks inside the VM, against which `npm run bench` holds what a sprite's user gets:
 *
 * | route | meaning |
 * | --- | --- |
 * | POST …/diagnostics/crun-exec | runs `crun exec … true` once; `{"ms": number}` by the guest's clock |
 * | GET …/diagnostics/stream?bytes=N | N zero bytes as a plain body, at most 1 GiB |
 * | POST …/diagnostics/disk | reads or writes a file on the state's file system: the virtual disk without the layers of the volume |
 * | GET …/diagnostics/pool | how full the pool is, and with `?from=v1&to=v2` what differs between two checkpoints, in blocks of 64 KiB |
 */
export function diagnostics(runner: CommandRunner, crunState: string, volume: ThinVolume, meter: DiskMeter): Hono {
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
  app.post("/diagnostics/disk", async (c) => {
    const { pattern, size_mb, operations } = await readJson(c, diskMeterRequest, "diagnostics");
    if (pattern === "remove") {
      await rm(meter.file, { force: true });
      return c.json({ bytes: 0, operations: 0, ms: 0 });
    }
    const argv = [meter.program, meter.file, pattern, String(size_mb), String(operations)] as const;
    const { stdout } = await runner.run({ argv, timeoutMs: DISK_TIMEOUT_MS });
    return c.json(diskMeterAnswer.parse(JSON.parse(stdout)));
  });
  app.get("/diagnostics/pool", async (c) => {
    const { from, to } = c.req.query();
    const usage = await volume.pool.usage();
    if (to === undefined) return c.json(usage);
    const start = performance.now();
    const delta = { ranges: 0, blocks: 0, unmappedBlocks: 0 };
    for await (const { length, mapped } of volume.pool.changedBlocks(
      from === undefined ? undefined : thinOf(volume, from),
      thinOf(volume, to),
    )) {
      delta.ranges++;
      if (mapped) delta.blocks += length;
      else delta.unmappedBlocks += length;
    }
    return c.json({ ...usage, ...delta, ms: performance.now() - start });
  });
  return app;
}

function thinOf(volume: ThinVolume, id: string): number {
  const found = volume.ledger.find(id);
  if (found === undefined) throw new HobError("not_found", `checkpoint not found: ${id}`);
  return found.thin;
}

function* zeros(bytes: number): Generator<Buffer> {
  for (let left = bytes; left > 0; left -= CHUNK.length) yield left < CHUNK.length ? CHUNK.subarray(0, left) : CHUNK;
}
