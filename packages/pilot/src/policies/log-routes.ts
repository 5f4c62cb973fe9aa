import { HobError, type NetworkLogEntry, networkLogQuery } from "@hob/protocol";
import { Hono } from "hono";
import { stream } from "hono/streaming";
import type { StreamingApi } from "hono/utils/stream";
import type { AuditLog } from "../network/audit-log.ts";

/** Lines that wait for a slow reader; beyond them it misses some, and is told how many. */
const WAITING_MAX = 1_000;
const HEARTBEAT_MS = 15_000;

/** `GET /policy/network/log`: decisions of the network policy as NDJSON, oldest first; with `follow` it does not end. */
export function networkLogRoutes(audit: AuditLog): Hono {
  const app = new Hono();
  app.get("/policy/network/log", (c) => {
    const query = networkLogQuery.safeParse(c.req.query());
    if (!query.success) {
      const [issue] = query.error.issues;
      throw new HobError("invalid_request", `network log: parameter ${issue?.path.join(".")}: ${issue?.message}`);
    }
    const { tail, follow } = query.data;
    c.header("Content-Type", "application/x-ndjson");
    return stream(c, (out) => writeLog(out, audit, tail, follow === "true" || follow === "1"));
  });
  return app;
}

async function writeLog(out: StreamingApi, audit: AuditLog, tail: number, follow: boolean): Promise<void> {
  const waiting = new Waiting();
  // Before the tail is read, so that nothing falls between the two; what is in both is written once.
  const end = follow ? audit.subscribe((line) => waiting.add(line)) : undefined;
  out.onAbort(() => waiting.wake());
  try {
    const lines = await audit.tail(tail);
    const written = new Set(lines);
    await out.write(lines.map((line) => `${line}\n`).join(""));
    while (end !== undefined && !out.aborted) {
      for (const line of waiting.take()) if (!written.delete(line)) await out.write(`${line}\n`);
      written.clear();
      // An empty line says that the stream lives; readers of NDJSON pass over it.
      if (!(await waiting.some(HEARTBEAT_MS))) await out.write("\n");
    }
  } finally {
    end?.();
  }
}

/** Lines between the log and one reader. */
class Waiting {
  #lines: string[] = [];
  #missed = 0;
  #wake: (() => void) | undefined;

  add(line: string): void {
    if (this.#lines.length < WAITING_MAX) this.#lines.push(line);
    else this.#missed++;
    this.wake();
  }

  take(): string[] {
    const lines = this.#lines;
    if (this.#missed > 0) {
      const entry: NetworkLogEntry = { time: new Date().toISOString(), type: "suppressed", count: this.#missed };
      lines.push(JSON.stringify(entry));
    }
    this.#lines = [];
    this.#missed = 0;
    return lines;
  }

  wake(): void {
    this.#wake?.();
  }

  /** Resolves with true when there is a line, with false when the time is over or `wake` was called for nothing. */
  async some(ms: number): Promise<boolean> {
    if (this.#lines.length > 0) return true;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = setTimeout(resolve, ms);
    });
    clearTimeout(timer);
    this.#wake = undefined;
    return this.#lines.length > 0;
  }
}
