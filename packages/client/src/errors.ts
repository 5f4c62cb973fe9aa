import { type ErrorCode, HobError, type HobErrorOptions, isErrorCode } from "@hob/protocol/errors.ts";

/** Characters of a body that is not JSON which are worth showing to a person. */
const PLAIN_TEXT_SHOWN = 300;

/** What a status means when the body names no code that this client knows: a proxy's answer, or a newer server's. */
const CODE_OF_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: "invalid_request",
  401: "unauthorized",
  403: "unauthorized",
  404: "not_found",
  405: "method_not_allowed",
  409: "conflict",
  410: "gone",
  413: "payload_too_large",
  429: "concurrent_sprite_limit_exceeded",
  502: "pilot_unreachable",
  503: "shutting_down",
  504: "timeout",
  507: "no_space",
};

const CONNECTION_ERRNOS = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EADDRNOTAVAIL",
  "EPIPE",
]);

/** Turns an HTTP answer outside 2xx into the error the server meant, its code, message and hint kept. */
export function errorFromAnswer(what: string, status: number, body: string): HobError {
  const parsed = parseErrorBody(body);
  const code = parsed.code !== undefined && isErrorCode(parsed.code) ? parsed.code : (CODE_OF_STATUS[status] ?? "internal");
  const options: HobErrorOptions = { details: { ...parsed.details, status } };
  if (parsed.hint !== undefined) options.hint = parsed.hint;
  else if (code === "unauthorized") options.hint = "check the token: 'hob token create' makes a new one";
  return new HobError(code, parsed.message ?? `${what}: the server answered with status ${status}`, options);
}

interface ParsedErrorBody {
  code?: string | undefined;
  message?: string | undefined;
  hint?: string | undefined;
  details: Record<string, string | number | boolean>;
}

function parseErrorBody(body: string): ParsedErrorBody {
  const parsed: ParsedErrorBody = { details: {} };
  for (const [key, value] of Object.entries(parseObject(body) ?? { message: plainMessage(body) })) {
    if (typeof value === "string" && (key === "message" || key === "hint")) parsed[key] = value;
    else if (typeof value === "string" && key === "error") parsed.code = value;
    else if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") parsed.details[key] = value;
  }
  parsed.message ??= parsed.code;
  return parsed;
}

function parseObject(body: string): object | undefined {
  try {
    const json: unknown = JSON.parse(body);
    return typeof json === "object" && json !== null ? json : {};
  } catch {
    return undefined;
  }
}

/** The first line of a plain-text body. A proxy's HTML page says nothing that the status does not say better. */
function plainMessage(body: string): string | undefined {
  const text = body.trim().split("\n")[0]?.slice(0, PLAIN_TEXT_SHOWN) ?? "";
  return text === "" || text.startsWith("<") ? undefined : text;
}

/**
 * The error of a request that got no answer: nobody listens, or the connection broke.
 * Anything that is not about the connection is passed through.
 */
export function connectionError(what: string, origin: string, thrown: unknown): HobError {
  if (thrown instanceof HobError) return thrown;
  const error = thrown as NodeJS.ErrnoException;
  // Happy-eyeballs dialling wraps the reasons of every address in an AggregateError.
  const errno =
    error.code ?? (thrown instanceof AggregateError ? (thrown.errors[0] as NodeJS.ErrnoException | undefined)?.code : undefined);
  if (errno === "ECONNREFUSED" || errno === "ENOTFOUND" || errno === "EAI_AGAIN") {
    return new HobError("cannot_connect", `${what}: no daemon answers at ${origin} (${errno})`, {
      hint: "start it with 'hob serve'",
      cause: thrown,
    });
  }
  if (errno !== undefined && CONNECTION_ERRNOS.has(errno)) {
    const hint = /^(POST|PUT|DELETE) /.test(what) ? "it may have been done all the same: look before you try again" : "try again";
    return new HobError("connection_lost", `${what}: the connection to ${origin} broke (${errno})`, { hint, cause: thrown });
  }
  return new HobError("connection_lost", `${what}: ${error.message || "the connection broke"}`, { cause: thrown });
}
