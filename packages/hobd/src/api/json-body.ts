import type { IncomingMessage } from "node:http";
import { HobError, LIMITS } from "@hob/protocol";
import type { z } from "zod";

/** Milliseconds in which a JSON body must have arrived. */
const BODY_TIMEOUT_MS = 30_000;
/** Of a body that is too large, so much is read and dropped before the answer, for so long. */
const DISCARDED_BYTES = 16 * LIMITS.jsonBodyBytes;
const DISCARD_MS = 2_000;

/**
 * Reads a request's body as JSON and checks it. An empty body counts as `{}`.
 * @param operation words for messages, such as "create sprite"
 * @throws HobError `invalid_request` | `payload_too_large` | `timeout`
 */
export async function readJsonBody<T>(request: IncomingMessage, schema: z.ZodType<T>, operation: string): Promise<T> {
  const bytes = await readBytes(request, operation);
  return checkShape(parseJson(bytes, operation), schema, operation);
}

function parseJson(bytes: Buffer, operation: string): unknown {
  if (bytes.length === 0) return {};
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new HobError("invalid_request", `${operation}: the body is not UTF-8`);
  }
  try {
    return JSON.parse(text);
  } catch {
    // The parser's own text would quote the body, and with it what may be secret.
    throw new HobError("invalid_request", `${operation}: the body is not JSON`);
  }
}

/** @throws HobError `invalid_request` that names each bad field; `invalid_name` when the name is what is wrong */
export function checkShape<T>(value: unknown, schema: z.ZodType<T>, operation: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issues = result.error.issues.slice(0, 5);
  const what = issues.map(({ path, message }) => (path.length === 0 ? message : `${path.map(String).join(".")}: ${message}`)).join("; ");
  const code =
    issues.every(({ path }) => path[0] === "name") && typeof (value as { name?: unknown })?.name === "string"
      ? "invalid_name"
      : "invalid_request";
  throw new HobError(code, `${operation}: ${what}`);
}

/** Reads the whole body. The connection of a request that fails here is closed with its answer. */
async function readBytes(request: IncomingMessage, operation: string): Promise<Buffer> {
  const limit = LIMITS.jsonBodyBytes;
  try {
    if (Number(request.headers["content-length"] ?? 0) > limit) throw tooLarge(operation, limit);
    return await collect(request, limit, operation);
  } catch (error) {
    if (error instanceof HobError && error.code === "payload_too_large") await discard(request);
    throw error;
  }
}

/** A close on top of what a client still sends resets the connection, and may take the answer with it, RFC 9112 section 9.6. */
function discard(request: IncomingMessage): Promise<void> {
  return new Promise((resolve) => {
    let left = DISCARDED_BYTES;
    const done = () => {
      clearTimeout(timer);
      request.off("data", onData).off("close", done).off("end", done).pause();
      resolve();
    };
    const onData = (chunk: Buffer) => {
      left -= chunk.length;
      if (left < 0) done();
    };
    const timer = setTimeout(done, DISCARD_MS);
    request.on("data", onData).once("close", done).once("end", done).resume();
  });
}

function collect(request: IncomingMessage, limit: number, operation: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const settle = (error: HobError | undefined) => {
      clearTimeout(timer);
      request.off("data", onData).off("end", onEnd).off("close", onEarlyEnd).off("error", onEarlyEnd).pause();
      if (error === undefined) resolve(Buffer.concat(chunks, size));
      else reject(error);
    };
    const onData = (chunk: Buffer) => {
      size += chunk.length;
      chunks.push(chunk);
      if (size > limit) settle(tooLarge(operation, limit));
    };
    const onEnd = () => settle(undefined);
    const onEarlyEnd = () => settle(new HobError("invalid_request", `${operation}: the body ended early`));
    const late = () => settle(new HobError("timeout", `${operation}: the body did not arrive within ${BODY_TIMEOUT_MS / 1000} s`));
    const timer = setTimeout(late, BODY_TIMEOUT_MS);
    request.on("data", onData).on("end", onEnd).on("close", onEarlyEnd).on("error", onEarlyEnd);
  });
}

const tooLarge = (operation: string, limit: number): HobError =>
  new HobError("payload_too_large", `${operation}: the body exceeds ${limit} bytes`);
