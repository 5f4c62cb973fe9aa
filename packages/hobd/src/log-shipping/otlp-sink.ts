import { HOB_VERSION, type ShippedBlock } from "@hob/protocol";
import type { Logger } from "pino";
import { type LogBatch, type LogSink, linesOf } from "./sink.ts";

const TIMEOUT_MS = 10_000;
/** Answers after which the same request may be sent again; anything else is final. OTLP specification, "OTLP/HTTP Response". */
const RETRYABLE: ReadonlySet<number> = new Set([408, 429, 502, 503, 504]);

/**
 * Sends to a collector by OTLP/HTTP with JSON (OpenTelemetry protocol 1.x). One log record per line; the sprite and the
 * service are the resource. A batch that the collector refuses for good is dropped with a warning: else one bad line would
 * hold back all that follow.
 */
export class OtlpSink implements LogSink {
  readonly #url: URL;
  readonly #log: Logger;

  /** @param base URL of the collector; `/v1/logs` is added unless it has a path */
  constructor(base: URL, log: Logger) {
    this.#url = base.pathname === "/" ? new URL("/v1/logs", base) : base;
    this.#log = log;
  }

  async write(batch: LogBatch): Promise<void> {
    const response = await fetch(this.#url, {
      method: "POST",
      headers: { "content-type": "application/json", "user-agent": `hob/${HOB_VERSION}` },
      body: JSON.stringify(toRequest(batch)),
      signal: AbortSignal.timeout(TIMEOUT_MS),
      redirect: "error",
    });
    await response.body?.cancel();
    if (response.ok) return;
    if (RETRYABLE.has(response.status)) throw new Error(`the collector answered with status ${response.status}`);
    this.#log.warn(
      { status: response.status, sprite: batch.spriteId, blocks: batch.blocks.length },
      "the log sink refuses a batch; it is dropped",
    );
  }
}

function toRequest({ spriteId, spriteName, blocks }: LogBatch): object {
  const byService = Map.groupBy(blocks, ({ service }) => service);
  return {
    resourceLogs: [...byService].map(([service, own]) => ({
      resource: {
        attributes: [attribute("service.name", service), attribute("hob.sprite.name", spriteName), attribute("hob.sprite.id", spriteId)],
      },
      scopeLogs: [{ scope: { name: "hob", version: HOB_VERSION }, logRecords: own.flatMap(toRecords) }],
    })),
  };
}

function toRecords(block: ShippedBlock): object[] {
  const timeUnixNano = String(BigInt(Math.trunc(block.timeMs)) * 1_000_000n);
  return linesOf(block).map((text) => ({
    timeUnixNano,
    observedTimeUnixNano: timeUnixNano,
    body: { stringValue: text },
    attributes: [attribute("log.iostream", block.stream)],
  }));
}

const attribute = (key: string, value: string) => ({ key, value: { stringValue: value } });
