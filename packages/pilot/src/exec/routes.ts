import { readFile } from "node:fs/promises";
import { HobError, type KillEvent, killRequest, type SessionItem, type SessionList } from "@hob/protocol";
import { type Context, Hono } from "hono";
import { stream } from "hono/streaming";
import { readBytes } from "../api/json-body.ts";
import { killSession } from "./kill.ts";
import type { Session } from "./session.ts";
import type { SessionRegistry } from "./sessions.ts";
import { SIGNAL_NUMBERS, signalNumber } from "./signals.ts";

const DEFAULT_TIMEOUT = { ms: 10_000, text: "10s" };

/** The plain requests of the family: the list of sessions, and the end of one. */
export function sessionRoutes(sessions: SessionRegistry): Hono {
  const app = new Hono();
  app.get("/exec", (c) => {
    const items = sessions.list().map(toItem);
    return c.json({ count: items.length, sessions: items } satisfies SessionList);
  });
  app.post("/exec/:id/kill", async (c) => {
    const { signal, timeout = DEFAULT_TIMEOUT } = await readKillRequest(c);
    const number = signal === undefined ? SIGNAL_NUMBERS.SIGTERM : signalNumber(signal);
    if (number === undefined) throw new HobError("invalid_request", "kill: parameter signal: no such signal");
    const session = sessions.running(c.req.param("id"));
    const pid = await pidInside(session);
    c.header("Content-Type", "application/x-ndjson");
    c.header("Cache-Control", "no-store");
    return stream(c, async (out) => {
      const lines: Promise<unknown>[] = [];
      const tell = (event: KillEvent) => lines.push(out.write(`${JSON.stringify(event)}\n`));
      await killSession(session, { signal: number, timeoutMs: timeout.ms, timeoutText: timeout.text, pid }, tell);
      await Promise.all(lines);
    });
  });
  return app;
}

/** @throws HobError `invalid_request` | `payload_too_large` */
async function readKillRequest(c: Context) {
  const text = (await readBytes(c, "kill")).toString("utf8");
  const query = Object.fromEntries(["signal", "timeout"].map((name) => [name, c.req.query(name)]).filter(([, value]) => value));
  const parsed = killRequest.safeParse({ ...parseObject(text), ...query });
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new HobError("invalid_request", `kill: parameter ${String(issue?.path[0] ?? "")}: ${issue?.message ?? "malformed"}`);
}

function parseObject(text: string): object {
  if (text.trim() === "") return {};
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch {
    // said below
  }
  throw new HobError("invalid_request", "kill: the body is no JSON object");
}

function toItem(session: Session): SessionItem {
  const { about, output } = session;
  return {
    id: session.id,
    created: new Date(about.created).toISOString(),
    command: about.command,
    workdir: about.workdir,
    tty: about.tty !== undefined,
    bytes_per_second: Math.round(output.bytesPerSecond * 10) / 10,
    is_active: output.readerCount > 0,
    last_activity: new Date(output.lastActivityMs).toISOString(),
  };
}

/** The process id that the sprite's user sees: the last of NSpid, proc_pid_status(5). */
async function pidInside({ process: { pid } }: Session): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/^NSpid:.*\s(\d+)$/m.exec(status)?.[1] ?? pid);
}
