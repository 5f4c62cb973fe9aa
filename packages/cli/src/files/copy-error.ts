import { type ErrorCode, HobError } from "@hob/protocol/errors.ts";

const CODE_OF_ERRNO: Readonly<Record<string, ErrorCode>> = {
  ENOENT: "not_found",
  EACCES: "permission_denied",
  EPERM: "permission_denied",
  ENOSPC: "no_space",
  ECONNRESET: "connection_lost",
};

/** What went wrong with one file: an error of the sprite as it is, one of this machine or of the connection in words. */
export function copyError(thrown: unknown): HobError {
  if (thrown instanceof HobError) return thrown;
  const error = thrown as NodeJS.ErrnoException;
  if (error.code === undefined) return new HobError("internal", error.message, { cause: thrown });
  const code = CODE_OF_ERRNO[error.code] ?? "invalid_request";
  const message = code === "connection_lost" ? "the connection broke before the file was complete" : error.message;
  return new HobError(code, message, { cause: thrown });
}
