import { resolve } from "node:path";
import { HobError } from "@hob/protocol";
import type { Logger } from "pino";
import { FileSink } from "./file-sink.ts";
import { OtlpSink } from "./otlp-sink.ts";
import type { LogSink } from "./sink.ts";

/** Where logs of services go: a file, or a collector that speaks OTLP/HTTP. */
export type SinkAddress = { kind: "file"; path: string } | { kind: "otlp"; url: string };

/** Reads `file:PATH`, `otlp+http://HOST:PORT` or `otlp+https://…`. @throws HobError `invalid_config` */
export function parseSinkAddress(text: string): SinkAddress {
  const [, path] = /^file:(?:\/\/)?(.+)$/.exec(text) ?? [];
  if (path !== undefined) return { kind: "file", path: resolve(path) };
  const [, url] = /^otlp\+(https?:\/\/.+)$/.exec(text) ?? [];
  if (url !== undefined && URL.canParse(url)) return { kind: "otlp", url };
  throw new HobError("invalid_config", `read setting logSink: ${JSON.stringify(text)} is not a log sink`, {
    hint: "file:/path/of/a/file, or otlp+http://collector:4318",
  });
}

export const openSink = (address: SinkAddress, log: Logger): LogSink =>
  address.kind === "file" ? new FileSink(address.path) : new OtlpSink(new URL(address.url), log);
