import { HobError, LIMITS } from "@hob/protocol";
import type { Context } from "hono";
import type { z } from "zod";

/** Milliseconds in which a JSON body must have arrived. */
const BODY_TIMEOUT_MS = 30_000;

/**
 * Reads a request's body as JSON and checks it. Messages name fields and never repeat values, which may be secrets.
 * @param operation words for messages, such as "create task"
 * @throws HobError `invalid_request` | `payload_too_large` | `timeout`
 */
export async function readJson<T>(c: Context, schema: z.ZodType<T>, operation: string): Promise<T> {
  const bytes = await readBytes(c, operation);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new HobError("invalid_request", `${operation}: the body is not JSON in UTF-8`);
  }
  return checkShape(value, schema, operation);
}

/** Checks the query; of a repeated parameter the first counts. @throws HobError `invalid_request` */
export const readQuery = <T>(c: Context, schema: z.ZodType<T>, operation: string): T => checkShape(c.req.query(), schema, operation);

function checkShape<T>(value: unknown, schema: z.ZodType<T>, operation: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issues = result.error.issues.slice(0, 5);
  const what = issues.map(({ path, message }) => (path.length === 0 ? message : `${path.map(String).join(".")}: ${message}`)).join("; ");
  throw new HobError("invalid_request", `${operation}: ${what}`);
}

/** A request's body, whole, up to what JSON may have. @throws HobError `invalid_request` | `payload_too_large` | `timeout` */
export async function readBytes(c: Context, operation: string): Promise<Buffer> {
  const limit = LIMITS.jsonBodyBytes;
  const tooLarge = new HobError("payload_too_large", `${operation}: the body exceeds ${limit} bytes`);
  if (Number(c.req.header("content-length") ?? 0) > limit) throw tooLarge;
  const { body } = c.req.raw;
  if (body === null) return Buffer.alloc(0);
  const late = new HobError("timeout", `${operation}: the body did not arrive within ${BODY_TIMEOUT_MS / 1000} s`);
  const reader = body.getReader();
  const timer = setTimeout(() => void reader.cancel(late).catch(() => {}), BODY_TIMEOUT_MS);
  const deadline = performance.now() + BODY_TIMEOUT_MS;
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      chunks.push(value);
      size += value.length;
      if (size > limit) throw tooLarge;
    }
  } catch (error) {
    void reader.cancel().catch(() => {});
    if (error instanceof HobError) throw error;
    throw new HobError("invalid_request", `${operation}: the body ended early`);
  } finally {
    clearTimeout(timer);
  }
  if (performance.now() >= deadline) throw late;
  return Buffer.concat(chunks, size);
}
