import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { PilotEndpoint } from "../runtime/sprite-runtime.ts";
import type { Cursors } from "./cursors.ts";
import { pullLogs } from "./pull.ts";
import type { LogSink } from "./sink.ts";

const RETRY_FIRST_MS = 1_000;
const RETRY_LONGEST_MS = 60_000;

export interface ShipperParts {
  readonly spriteId: string;
  readonly spriteName: string;
  readonly sink: LogSink;
  readonly cursors: Cursors;
  readonly log: Logger;
  /** Where the pilot is; undefined when the sprite does not run. It must not wake the sprite. */
  readonly locate: () => Promise<PilotEndpoint | undefined>;
  /** the end of a shipper of the same sprite before this one */
  readonly after: Promise<void>;
}

/**
 * Carries one running sprite's logs to the sink: pull, write, remember how far, pull again. One batch is under way at a
 * time, and the rest waits in the sprite's own files, which are bounded; so a slow sink costs no memory here.
 */
export class Shipper {
  readonly #parts: ShipperParts;
  readonly #stopping = new AbortController();
  readonly #done: Promise<void>;

  constructor(parts: ShipperParts) {
    this.#parts = parts;
    this.#done = this.#run();
  }

  /** A batch that is being written is finished. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { spriteId, cursors, log, after } = this.#parts;
    const { signal } = this.#stopping;
    await after;
    let cursor = await cursors.load(spriteId);
    let retryMs = RETRY_FIRST_MS;
    while (!signal.aborted) {
      try {
        const next = await this.#ship(cursor);
        if (next === undefined) return;
        cursor = next;
        retryMs = RETRY_FIRST_MS;
      } catch (error) {
        if (signal.aborted) return;
        log.warn({ sprite: spriteId, err: error, retryMs }, "ship logs: failed, to be tried again");
        await sleep(retryMs, undefined, { signal }).catch(() => {});
        retryMs = Math.min(2 * retryMs, RETRY_LONGEST_MS);
      }
    }
  }

  /** @returns the cursor behind what was shipped; undefined when the sprite does not run any more */
  async #ship(cursor: Parameters<Cursors["save"]>[1]) {
    const { spriteId, spriteName, sink, cursors, locate } = this.#parts;
    const endpoint = await locate();
    if (endpoint === undefined) return undefined;
    const pulled = await pullLogs(endpoint, cursor, this.#stopping.signal);
    if (pulled.blocks.length > 0) await sink.write({ spriteId, spriteName, blocks: pulled.blocks });
    if (JSON.stringify(pulled.cursor) !== JSON.stringify(cursor)) await cursors.save(spriteId, pulled.cursor);
    return pulled.cursor;
  }
}
