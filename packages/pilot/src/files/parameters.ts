import type { IncomingMessage } from "node:http";
import { HobError, LIMITS } from "@hob/protocol";
import type { HttpBindings } from "@hono/node-server";
import type { Context } from "hono";
import type { z } from "zod";

export type FilesContext = Context<{ Bindings: HttpBindings }>;

/** Milliseconds in which a JSON body must have arrived. */
const BODY_TIMEOUT_MS = 30_000;

/** @throws HobError `invalid_request`; its message names the parameter */
function check<Schema extends z.ZodType>(schema: Schema, values: unknown, operation: string): z.output<Schema> {
  const result = schema.safeParse(values);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const missing = issue?.code === "invalid_type" && issue.input === undefined;
  throw new HobError(
    "invalid_request",
    `${operation}: parameter ${String(issue?.path[0] ?? "")}: ${missing ? "missing" : (issue?.message ?? "malformed")}`,
  );
}

/** Parameters of the query; of a repeated one, the first counts. */
export const queryParameters = <Schema extends z.ZodType>(c: FilesContext, schema: Schema, operation: string): z.output<Schema> =>
  check(schema, c.req.query(), operation);

/** Parameters of a JSON body, and of the query where the body has none of that name. */
export async function bodyParameters<Schema extends z.ZodType>(
  c: FilesContext,
  schema: Schema,
  operation: string,
): Promise<z.output<Schema>> {
  const body = parseObject(await readBody(c.env.incoming, operation), operation);
  return check(schema, { ...c.req.query(), ...body }, operation);
}

function parseObject(bytes: Buffer, operation: string): object {
  if (bytes.length === 0) return {};
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString("utf8"));
  } catch {
    throw new HobError("invalid_request", `${operation}: the body is not JSON`);
  }
  if (value === null) return {};
  if (typeof value !== "object" || Array.isArray(value)) throw new HobError("invalid_request", `${operation}: the body is no JSON object`);
  return value;
}

async function readBody(incoming: IncomingMessage, operation: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const timer = setTimeout(() => incoming.destroy(), BODY_TIMEOUT_MS);
  try {
    for await (const chunk of incoming) {
      bytes += (chunk as Buffer).length;
      if (bytes > LIMITS.jsonBodyBytes) {
        throw new HobError("payload_too_large", `${operation}: the body exceeds ${LIMITS.jsonBodyBytes} bytes`);
      }
      chunks.push(chunk as Buffer);
    }
  } catch (error) {
    if (error instanceof HobError) throw error;
    throw new HobError("invalid_request", `${operation}: the body ended early`);
  } finally {
    clearTimeout(timer);
  }
  return Buffer.concat(chunks);
}

/** A flag of a query. */
export const isTrue = (flag: string | undefined): boolean => flag === "true" || flag === "1";
