import type { IncomingHttpHeaders } from "node:http";
import { HobError } from "@hob/protocol";
import type { HttpAnswer } from "./s3-http.ts";
import { parseErrorAnswer } from "./s3-xml.ts";

const RESTART = "and start `hob serve` again";

/** By the codes of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html */
const CODE_HINTS: Readonly<Record<string, string>> = {
  AccessDenied: "the credentials need s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket on the bucket",
  ExpiredToken: `the session token has expired: set new credentials ${RESTART}`,
  InvalidAccessKeyId: `the store does not know the access key: check AWS_ACCESS_KEY_ID or the profile, ${RESTART}`,
  InvalidToken: `the store does not take the session token: check AWS_SESSION_TOKEN or the profile, ${RESTART}`,
  NoSuchBucket: "make the bucket, or correct its name in the store's description",
  SignatureDoesNotMatch: `the secret key is not the one of the access key: check AWS_SECRET_ACCESS_KEY or the profile, ${RESTART}`,
};

/** For answers without a code that is known: those to HEAD have no body. */
const STATUS_HINTS: Readonly<Record<number, string>> = {
  301: "check region and endpoint in the store's description",
  307: "check region and endpoint in the store's description",
  308: "check region and endpoint in the store's description",
  400: "check region and endpoint in the store's description, and the credentials",
  401: "check the credentials",
  403: "check the credentials, their permissions on the bucket, and this machine's clock",
  404: "check that the bucket exists",
};

/** Nothing was written because another write of the same object was under way; the same request may succeed now. */
const CONFLICTS = new Set(["ConditionalRequestConflict", "OperationAborted"]);
const PASSING = new Set([...CONFLICTS, "RequestTimeout", "SlowDown"]);

/** What an answer means that was not expected. */
export function s3Error({ method, key }: { method: string; key: string }, { status, headers, body }: HttpAnswer): HobError {
  const { code, message, region } = parseErrorAnswer(body.toString("utf8"));
  const said = [status, code, message].filter((part) => part !== "").join(" ");
  const what = `the object store answered ${method} ${key === "" ? "of the bucket" : key} with ${said}`;
  const passing = (status >= 500 && status !== 501) || status === 429 || status === 408 || PASSING.has(code);
  if (passing) return new HobError("store_unavailable", what);
  if (status === 412 || status === 409) return new HobError("precondition_failed", what);
  if (status === 501) return new HobError("store_unsupported", what);
  const hint = code === "RequestTimeTooSkewed" ? clockHint(headers) : (CODE_HINTS[code] ?? regionHint(status, headers, region));
  return new HobError("store_failed", what, withHint(hint ?? STATUS_HINTS[status]));
}

function clockHint({ date }: IncomingHttpHeaders): string {
  const seconds = Math.round((Date.now() - Date.parse(date ?? "")) / 1000);
  const off = Number.isNaN(seconds) ? "not that of the store" : `${Math.abs(seconds)} s ${seconds < 0 ? "behind" : "ahead of"} the store's`;
  return `this machine's clock is ${off}: set it, \`timedatectl\` shows whether something does`;
}

/** Where a bucket is: redirects say so in a header, a refused signature in its text. */
function regionHint(status: number, headers: IncomingHttpHeaders, said: string): string | undefined {
  const region = String(headers["x-amz-bucket-region"] ?? said);
  if (![301, 307, 308, 400].includes(status) || !/^[a-z0-9-]{1,40}$/.test(region)) return undefined;
  return `the bucket is in region ${region}: set region=${region} in the store's description, or AWS_REGION`;
}

const TRUST_HINT =
  "set AWS_CA_BUNDLE, or ca_bundle of the profile, to a file with the certificate of the authority that signed the store's, and start `hob serve` again";

/** Alerts of RFC 8446, 6.2, for damage on the way and for a server in trouble: another connection may do, as after any that breaks. */
const PASSING_TLS = /bad[_ ]record[_ ]mac|internal[_ ]error/i;

/** By codes of https://nodejs.org/api/tls.html#x509-certificate-error-codes and of OpenSSL; none of them passes by itself. */
const TLS_HINTS: readonly (readonly [RegExp, string])[] = [
  [/^ERR_TLS_CERT_ALTNAME_INVALID$/, "check the endpoint; path_style=true keeps the bucket out of the host's name"],
  [/^CERT_(HAS_EXPIRED|NOT_YET_VALID)$/, "renew the store's certificate, or set this machine's clock"],
  [/^(UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|CERT_|CRL_|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_|ERR_TLS_)/, TRUST_HINT],
  [/^(ERR_SSL_|EPROTO$)/, "the two sides do not find to TLS: a store without it has an endpoint that begins with http://"],
];

/** What it means that there was no answer. */
export function connectionError(host: string, cause: unknown): HobError {
  const root = rootOf(cause);
  const code = root !== null && typeof root === "object" && "code" in root ? String(root.code) : "";
  const why = root instanceof Error ? root.message.trim() || code || root.name : String(root);
  const tlsHint = PASSING_TLS.test(`${code} ${why}`) ? undefined : TLS_HINTS.find(([codes]) => codes.test(code))?.[1];
  const what = `the object store at ${host}`;
  if (tlsHint !== undefined) return new HobError("store_failed", `${what} cannot be talked to by TLS: ${why}`, { cause, hint: tlsHint });
  const nameHint = "check endpoint and region in the store's description; path_style=true keeps the bucket out of the host's name";
  return new HobError("store_unavailable", `${what} cannot be reached: ${why}`, {
    cause,
    ...withHint(code === "ENOTFOUND" ? nameHint : undefined),
  });
}

const withHint = (hint: string | undefined): { hint?: string } => (hint === undefined ? {} : { hint });

/** A host with several addresses fails with one error for each; the first says as much as all. */
function rootOf(error: unknown): unknown {
  if (error instanceof AggregateError && error.errors.length > 0) return rootOf(error.errors[0]);
  return error instanceof Error && error.cause instanceof Error ? rootOf(error.cause) : error;
}
