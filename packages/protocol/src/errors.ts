/**
 * The catalogue of errors: every code a client, the CLI or a log can meet, with the HTTP status it maps to
 * and whether the same request may succeed when it is repeated unchanged.
 *
 * Codes are stable: they are renamed or reused never, only added.
 */
export const ERROR_CATALOGUE = {
  invalid_request: { status: 400, retryable: false, summary: "the request is malformed or a parameter is out of range" },
  invalid_name: { status: 400, retryable: false, summary: "the name is not a valid sprite name" },
  name_taken: { status: 400, retryable: false, summary: "a sprite of this name exists" },
  idempotency_mismatch: { status: 400, retryable: false, summary: "the Idempotency-Key was used with another request body" },
  unauthorized: { status: 401, retryable: false, summary: "the bearer token is missing, unknown or revoked" },
  permission_denied: { status: 403, retryable: false, summary: "the sprite's user may not do this to the file" },
  not_found: { status: 404, retryable: false, summary: "no such route, sprite, session or token" },
  method_not_allowed: { status: 405, retryable: false, summary: "the route exists, but not with this method" },
  conflict: { status: 409, retryable: false, summary: "the present state forbids this" },
  gone: { status: 410, retryable: false, summary: "the session has already ended" },
  payload_too_large: { status: 413, retryable: false, summary: "the request body exceeds its limit" },
  concurrent_sprite_limit_exceeded: { status: 429, retryable: true, summary: "the machine has no room for one more running sprite" },
  sprite_creation_rate_limited: {
    status: 429,
    retryable: true,
    summary: "too many sprites were created with this token in the last minute",
  },
  internal: { status: 500, retryable: false, summary: "a fault of Hob; the log has the details" },
  vm_failed: { status: 502, retryable: true, summary: "the microVM did not start, or ended unexpectedly" },
  pilot_unreachable: { status: 502, retryable: true, summary: "the microVM runs, but its pilot does not answer" },
  outcome_unknown: {
    status: 502,
    retryable: false,
    summary: "the pilot or its microVM was lost with the request, which may have had its effect or not",
  },
  nothing_listens: { status: 502, retryable: true, summary: "nothing inside the sprite listens on this port" },
  host_unreachable: { status: 502, retryable: true, summary: "the sprite cannot reach this host, or does not know its name" },
  app_failed: { status: 502, retryable: true, summary: "the server inside the sprite closed the connection, or does not speak HTTP" },
  too_many_connections: { status: 503, retryable: true, summary: "as many connections into the sprite are open as it may have" },
  shutting_down: { status: 503, retryable: true, summary: "the daemon is stopping" },
  timeout: { status: 504, retryable: true, summary: "a bounded wait ran out" },
  no_space: { status: 507, retryable: true, summary: "the disk that holds the state is full" },
  helper_failed: { status: 500, retryable: false, summary: "the native helper could not do what the pilot asked of it" },
  helper_unreachable: { status: 503, retryable: true, summary: "the native helper does not answer; it is being restarted" },
  volume_unusable: { status: 500, retryable: false, summary: "the sprite's data disk cannot be used as it is" },
  precondition_failed: { status: 412, retryable: false, summary: "the object in the store is not what the writer expected" },
  ownership_lost: { status: 409, retryable: false, summary: "another host has taken the sprite over; this one may write it no more" },
  data_damaged: { status: 500, retryable: false, summary: "an object of the store is missing, or is not what its checksum says" },
  store_failed: { status: 502, retryable: false, summary: "the object store refused a request: credentials, permission or configuration" },
  store_unsupported: { status: 501, retryable: false, summary: "the object store lacks a feature that Hob depends on" },
  store_unavailable: { status: 503, retryable: true, summary: "the object store does not answer, or answers with an error of its own" },
  container_stopped: { status: 503, retryable: true, summary: "the sprite's inner container does not run at the moment" },
  // Never on the wire: met by the CLI and the daemon's own start.
  missing_tool: { status: 500, retryable: false, summary: "a program that Hob needs is not installed" },
  command_failed: { status: 500, retryable: false, summary: "a program that Hob ran failed" },
  image_corrupt: { status: 500, retryable: true, summary: "a cached image does not match its recorded checksum" },
  image_build_failed: { status: 500, retryable: true, summary: "building an image failed" },
  home_locked: { status: 409, retryable: true, summary: "another daemon uses this state directory" },
  home_unusable: { status: 500, retryable: false, summary: "the state directory cannot be created or written" },
  registry_unusable: { status: 500, retryable: false, summary: "the registry database is damaged, or written by a newer Hob" },
  address_in_use: { status: 409, retryable: true, summary: "the address to listen on is taken" },
  cannot_connect: { status: 502, retryable: true, summary: "no daemon answers at this URL" },
  connection_lost: { status: 502, retryable: true, summary: "the connection to the daemon ended before the answer was complete" },
  bad_answer: { status: 502, retryable: false, summary: "the daemon answered with something that this client does not understand" },
  invalid_config: { status: 400, retryable: false, summary: "a configuration value or file is malformed" },
  usage: { status: 400, retryable: false, summary: "the command line is not understood" },
} as const satisfies Record<string, { status: number; retryable: boolean; summary: string }>;

export type ErrorCode = keyof typeof ERROR_CATALOGUE;

export interface HobErrorOptions {
  /** what the reader can do about it; one sentence, no full stop needed */
  hint?: string;
  /** further machine-readable facts, sent beside `error` and `message` */
  details?: Record<string, string | number | boolean>;
  cause?: unknown;
}

/** The one error class. `message` says operation, object and what happened; `hint` what to do. */
export class HobError extends Error {
  override readonly name = "HobError";
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly details: Record<string, string | number | boolean>;

  constructor(code: ErrorCode, message: string, options: HobErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.details = options.details ?? {};
  }

  get status(): number {
    return ERROR_CATALOGUE[this.code].status;
  }

  get retryable(): boolean {
    return ERROR_CATALOGUE[this.code].retryable;
  }

  /** Body of an HTTP error answer, in the shape the SDKs parse: `error`, `message`, further fields flat beside them. */
  toBody(): ErrorBody {
    return { ...this.details, error: this.code, message: this.message, ...(this.hint === undefined ? {} : { hint: this.hint }) };
  }
}

export interface ErrorBody {
  error: string;
  message: string;
  hint?: string;
  [detail: string]: string | number | boolean | undefined;
}

export const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(ERROR_CATALOGUE, code);

/** Turns anything thrown into a HobError; what is not one already becomes `internal`, its text kept as the cause only. */
export function toHobError(thrown: unknown): HobError {
  if (thrown instanceof HobError) return thrown;
  return new HobError("internal", "internal error", { cause: thrown, hint: "see the daemon's log" });
}
