import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { HobError } from "@hob/protocol";

export interface S3Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
}

/** Values of the environment; passed in, so that nothing below reads the process's own. */
export type Environment = Readonly<Record<string, string | undefined>>;

export interface S3Settings {
  credentials: S3Credentials;
  region: string | undefined;
  endpoint: string | undefined;
  /** PEM of the only authorities to trust */
  ca: string | undefined;
}

/**
 * Credentials, region, endpoint and trusted authorities from where AWS's tools keep them: the environment, else the profile
 * of the shared files. All but the credentials may be missing. An empty variable counts as none.
 *
 * @param profile overrides AWS_PROFILE; then keys of the environment are not used
 * @throws HobError `invalid_config` when there are no credentials, or a file cannot be read
 */
export async function loadS3Settings(environment: Environment, profile?: string): Promise<S3Settings> {
  const files = await readProfile(environment, profile ?? (environment.AWS_PROFILE || "default"), profile !== undefined);
  const credentials = (profile === undefined ? fromEnvironment(environment) : undefined) ?? fromProfile(files);
  if (credentials === undefined) throw noCredentials(environment, files);
  const bundle = environment.AWS_CA_BUNDLE || files.ca_bundle;
  return {
    credentials,
    region: environment.AWS_REGION || environment.AWS_DEFAULT_REGION || files.region,
    endpoint: checkEndpoint(environment.AWS_ENDPOINT_URL_S3 || environment.AWS_ENDPOINT_URL || files.endpoint_url),
    ca: bundle ? await readBundle(bundle) : undefined,
  };
}

/** Sources that AWS's tools know and Hob does not read: they need a program, a browser or a server that may not be there. */
const OTHER_SOURCES = {
  environment: ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"],
  profile: [
    "credential_process",
    "credential_source",
    "role_arn",
    "sso_session",
    "sso_start_url",
    "login_session",
    "web_identity_token_file",
  ],
} as const;

function noCredentials(environment: Environment, files: Readonly<Record<string, string>>): HobError {
  const other =
    OTHER_SOURCES.environment.find((name) => environment[name]) ?? OTHER_SOURCES.profile.find((name) => files[name] !== undefined);
  if (other === undefined)
    return new HobError("invalid_config", "cannot use S3: there are no credentials", {
      hint: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to a profile in ~/.aws/credentials and set AWS_PROFILE",
    });
  return new HobError("invalid_config", `cannot use S3: Hob reads no credentials from ${other}`, {
    hint: "use an access key, or set what `aws configure export-credentials --format env` prints for as long as that is valid",
  });
}

function checkEndpoint(endpoint: string | undefined): string | undefined {
  if (!endpoint || isHttpUrl(endpoint)) return endpoint || undefined;
  throw new HobError("invalid_config", "cannot use S3: the endpoint of environment or profile is not a URL of http or https", {
    hint: "look at AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL and endpoint_url of the profile",
  });
}

/** Whether requests can go there. What follows a `?`, and a user, would be lost or sent to everyone. */
export function isHttpUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password, search } = new URL(text);
  return (protocol === "http:" || protocol === "https:") && username === "" && password === "" && search === "";
}

async function readBundle(path: string): Promise<string> {
  try {
    const pem = await readFile(path, "utf8");
    new X509Certificate(pem);
    return pem;
  } catch (cause) {
    throw new HobError("invalid_config", `cannot use S3: ${path} is not a readable file of certificates`, {
      cause,
      hint: "AWS_CA_BUNDLE, or ca_bundle of the profile, names a file with PEM certificates of the authorities to trust",
    });
  }
}

function fromEnvironment(environment: Environment): S3Credentials | undefined {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken } = environment;
  if (!accessKeyId || !secretAccessKey) return undefined;
  return { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) };
}

function fromProfile(values: Readonly<Record<string, string>>): S3Credentials | undefined {
  const { aws_access_key_id: accessKeyId, aws_secret_access_key: secretAccessKey, aws_session_token: sessionToken } = values;
  if (!accessKeyId || !secretAccessKey) return undefined;
  return { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) };
}

async function readProfile(environment: Environment, profile: string, required: boolean): Promise<Record<string, string>> {
  const home = environment.HOME ?? homedir();
  const config = parseIni(await readIfThere(environment.AWS_CONFIG_FILE ?? join(home, ".aws/config")));
  const shared = parseIni(await readIfThere(environment.AWS_SHARED_CREDENTIALS_FILE ?? join(home, ".aws/credentials")));
  // In the config file all profiles but the default are in sections named "profile NAME".
  const fromConfig = config.get(`profile ${profile}`) ?? (profile === "default" ? config.get("default") : undefined);
  const fromShared = shared.get(profile);
  if (fromConfig === undefined && fromShared === undefined && (required || profile !== "default"))
    throw new HobError("invalid_config", `cannot use S3: there is no profile ${profile}`, {
      hint: "look into ~/.aws/credentials and ~/.aws/config",
    });
  return { ...fromConfig, ...fromShared };
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return "";
    throw new HobError("invalid_config", `cannot read ${path}`, { cause });
  }
}

/** Sections of `name = value` lines; nested values (indented) are not needed and left out. */
export function parseIni(text: string): Map<string, Record<string, string>> {
  const sections = new Map<string, Record<string, string>>();
  let current: Record<string, string> | undefined;
  for (const line of text.split(/\r?\n/)) {
    const header = /^\s*\[\s*([^\]]*?)\s*\]/.exec(line);
    const pair = /^([A-Za-z0-9_.-]+)\s*=\s*(.*?)\s*$/.exec(line);
    if (header?.[1] !== undefined) {
      const name = header[1].replaceAll(/\s+/g, " ");
      current = sections.get(name) ?? {};
      sections.set(name, current);
    } else if (pair?.[1] !== undefined && current !== undefined) current[pair[1].toLowerCase()] = (pair[2] ?? "").replace(/\s+[#;].*$/, "");
  }
  return sections;
}
