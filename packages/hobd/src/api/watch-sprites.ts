import type { SpriteStatus } from "@hob/protocol";
import { SPRITE_VERSION } from "@hob/protocol";
import type { SpriteRecord } from "../registry/registry.ts";
import { type ListQuery, organizationCounters } from "./list-sprites.ts";
import type { SpriteContext, SpriteEvent } from "./sprite-context.ts";

/** Milliseconds of silence after which a heartbeat line shows both ends that the other is there. */
const HEARTBEAT_MS = 20_000;

/** Lines of one sprite's state: `snapshot` first, one for each sprite, then one for each change. */
type WatchType = "snapshot" | SpriteEvent["type"] | "heartbeat";

/**
 * The sprites as they are, then every change, one JSON object per line, until the signal. A reader that is slower than
 * the changes gets the newest state of each sprite only: what is waiting is bounded by the number of sprites.
 */
export async function* watchSprites(context: SpriteContext, { prefix, limit }: ListQuery, signal: AbortSignal): AsyncGenerator<string> {
  const pending = new Map<string, SpriteEvent>();
  let wake = () => {};
  const unsubscribe = context.events.subscribe((event) => {
    if (!event.name.startsWith(prefix)) return;
    // A name that was deleted and made again: both must be told.
    pending.set(event.id, mergeEvents(pending.get(event.id), event));
    wake();
  });
  const onAbort = () => wake();
  signal.addEventListener("abort", onAbort);
  try {
    yield* snapshot(context, prefix, limit);
    while (!signal.aborted) {
      if (pending.size === 0) {
        const changed = await new Promise<boolean>((resolve) => {
          const timer = setTimeout(() => resolve(false), HEARTBEAT_MS);
          wake = () => {
            clearTimeout(timer);
            resolve(true);
          };
          if (signal.aborted) wake();
        });
        if (!changed) yield await line(context, { type: "heartbeat", at: context.now() });
        continue;
      }
      const events = [...pending.values()];
      pending.clear();
      for (const event of events) {
        const record = event.type === "deleted" ? undefined : await context.sprites.findById(event.id);
        yield await line(context, { ...event, ...(record === undefined ? {} : { record }) });
      }
    }
  } finally {
    unsubscribe();
    signal.removeEventListener("abort", onAbort);
  }
}

/** What is still unread keeps its kind, so that a `created` is not lost behind the status that follows it. */
function mergeEvents(unread: SpriteEvent | undefined, next: SpriteEvent): SpriteEvent {
  if (unread === undefined || next.type === "deleted") return next;
  return { ...next, type: unread.type === "created" ? "created" : next.type };
}

async function* snapshot(context: SpriteContext, prefix: string, limit: number): AsyncGenerator<string> {
  let after = "";
  for (;;) {
    const records = await context.sprites.list({ prefix, after, limit });
    for (const record of records) {
      const status = context.runtime.status(record.id);
      yield await line(context, { type: "snapshot", name: record.name, status, at: context.now(), record });
    }
    after = records.at(-1)?.name ?? "";
    if (records.length < limit) return;
  }
}

interface WatchLine {
  type: WatchType;
  name?: string;
  status?: SpriteStatus;
  at: number;
  record?: SpriteRecord;
}

async function line(context: SpriteContext, { type, name, status, at, record }: WatchLine): Promise<string> {
  const time = (unixMs: number | null | undefined) => (unixMs == null ? null : new Date(unixMs).toISOString());
  const body = {
    type,
    ...(name === undefined ? {} : { name, status, running_version: SPRITE_VERSION }),
    last_running_at: time(record?.lastRunningAt),
    last_warming_at: time(record?.lastWarmingAt),
    timestamp: time(at),
    org: await organizationCounters(context),
  };
  return `${JSON.stringify(body)}\n`;
}
