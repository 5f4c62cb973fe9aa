import { isAbsolute } from "node:path";
import { HobError } from "@hob/protocol";
import { DirectoryStore } from "./directory-store.ts";
import { isObjectKey } from "./object-key.ts";
import type { ObjectStore } from "./object-store.ts";
import { PrefixStore } from "./prefix-store.ts";
import { type Environment, isHttpUrl, loadS3Settings } from "./s3-credentials.ts";
import { S3Store } from "./s3-store.ts";

export type StoreDescription =
  | { kind: "directory"; path: string }
  | {
      kind: "s3";
      bucket: string;
      prefix?: string;
      endpoint?: string;
      region?: string;
      pathStyle?: boolean;
      profile?: string;
    };

const HINT = "write dir:/path or s3://BUCKET[/PREFIX][?endpoint=URL&region=REGION&path_style=true&profile=NAME]";

/** `dir:/path` or `s3://…` (docs/formats/storage.md). @throws HobError `invalid_config` */
export function parseStoreDescription(text: string): StoreDescription {
  if (text.startsWith("dir:")) {
    const path = text.slice("dir:".length);
    if (!isAbsolute(path) || path.includes("\0")) throw malformed(text, "the path of a directory begins with /");
    return { kind: "directory", path };
  }
  if (!text.startsWith("s3://") || !URL.canParse(text)) throw malformed(text, "it is neither a directory nor an S3 bucket");
  const url = new URL(text);
  if (url.username !== "" || url.password !== "" || url.port !== "" || url.hash !== "")
    throw malformed(`s3://${url.hostname}…`, "a bucket comes without credentials, port and fragment");
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(url.hostname))
    throw malformed(text, `"${url.hostname}" is not the name of a bucket, which has 3 to 63 characters a-z, 0-9, '.' and '-'`);
  const prefix = url.pathname.replace(/^\//, "").replace(/\/$/, "");
  if (prefix !== "" && !isObjectKey(prefix)) throw malformed(text, `${prefix} is not a prefix of keys`);
  return { kind: "s3", bucket: url.hostname, ...(prefix === "" ? {} : { prefix }), ...parseOptions(text, url.searchParams) };
}

function parseOptions(text: string, query: URLSearchParams): Partial<Extract<StoreDescription, { kind: "s3" }>> {
  const known = new Set(["endpoint", "region", "path_style", "profile"]);
  for (const name of query.keys()) if (!known.has(name)) throw malformed(text, `there is no option ${name}`);
  const endpoint = query.get("endpoint");
  if (endpoint !== null && !isHttpUrl(endpoint)) throw malformed(text, "the endpoint is not a URL of http or https");
  const pathStyle = query.get("path_style");
  if (pathStyle !== null && pathStyle !== "true" && pathStyle !== "false") throw malformed(text, "path_style is true or false");
  const region = query.get("region");
  const profile = query.get("profile");
  return {
    ...(endpoint === null ? {} : { endpoint }),
    ...(region === null ? {} : { region }),
    ...(pathStyle === null ? {} : { pathStyle: pathStyle === "true" }),
    ...(profile === null ? {} : { profile }),
  };
}

/**
 * The store of a description.
 *
 * @param environment where credentials are looked for
 * @param exists the store was used before: a directory that is not there is away, and not made anew
 * @throws HobError `invalid_config`, and what opening a directory throws
 */
export async function openStore(text: string, environment: Environment, { exists = false } = {}): Promise<ObjectStore> {
  const description = parseStoreDescription(text);
  if (description.kind === "directory") return await DirectoryStore.open(description.path, { exists });
  const settings = await loadS3Settings(environment, description.profile);
  const endpoint = description.endpoint ?? settings.endpoint;
  const store = new S3Store({
    bucket: description.bucket,
    // Servers other than AWS take any region; this is the one that they are asked for by default.
    region: description.region ?? settings.region ?? "us-east-1",
    endpoint,
    pathStyle: description.pathStyle,
    credentials: settings.credentials,
    ca: settings.ca,
  });
  return description.prefix === undefined ? store : new PrefixStore(store, description.prefix);
}

const malformed = (text: string, why: string): HobError =>
  new HobError("invalid_config", `the object store ${JSON.stringify(text)} cannot be used: ${why}`, { hint: HINT });
