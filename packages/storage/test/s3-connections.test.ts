/** TLS, host names of buckets, and settings from where AWS's tools keep them, against a real server. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import dns from "node:dns";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer as createPlainServer } from "node:http";
import { createServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it, mock } from "node:test";
import { promisify } from "node:util";
import { HobError } from "@hob/protocol";
import type { ObjectStore } from "../src/store/object-store.ts";
import { openStore } from "../src/store/open-store.ts";
import { RetryingStore } from "../src/store/retrying-store.ts";
import { S3Store } from "../src/store/s3-store.ts";
import { makeAuthority } from "./support/authority.ts";
import { listening } from "./support/listening.ts";
import { GATEWAY_NAME, startRadosGateway } from "./support/rados-gateway.ts";
import { type SeenRequest, startScriptedServer } from "./support/scripted-server.ts";
import { rejectsWith, storeContract } from "./support/store-contract.ts";

const gateway = await startRadosGateway();
const folder = await mkdtemp(join(tmpdir(), "hob-s3-"));
after(async () => {
  await gateway[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});
await gateway.bucket("hob-connections");

/** Names below `.test`, which RFC 2606 keeps for tests, are this machine; nothing else is asked for. */
mock.method(dns, "lookup", (host: string, options: dns.LookupOptions, done: (error: Error | null, ...found: unknown[]) => void) => {
  if (!/(^127\.0\.0\.1|\.test)$/.test(host)) done(Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), { code: "ENOTFOUND" }));
  else if (options.all) done(null, [{ address: "127.0.0.1", family: 4 }]);
  else done(null, "127.0.0.1", 4);
});

const keys = { AWS_ACCESS_KEY_ID: gateway.credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: gateway.credentials.secretAccessKey };
const environment = { HOME: folder, ...keys, AWS_CA_BUNDLE: gateway.caFile, AWS_ENDPOINT_URL: gateway.tlsEndpoint };

const probed = await openStore("s3://hob-connections?path_style=false", environment);
await probed.probe();
storeContract("S3 by TLS and the bucket's host name", () => probed);

/** What a store says that cannot be read. */
async function refused(store: ObjectStore): Promise<HobError> {
  let thrown: unknown;
  await assert.rejects(store.get("x"), (error) => {
    thrown = error;
    return true;
  });
  assert.ok(thrown instanceof HobError, String(thrown));
  return thrown;
}

/** What it says at the first try, for there is none after it. */
async function distrust(store: ObjectStore): Promise<HobError> {
  const error = await refused(new RetryingStore(store));
  assert.equal(error.code, "store_failed");
  assert.ok(!error.retryable);
  return error;
}

describe("an S3 store by TLS", () => {
  it("is reached by path as well", async () => {
    const store = await openStore("s3://hob-connections/tls", environment);
    await store.put("x", Buffer.from("by path"));
    assert.equal((await probed.get("tls/x"))?.data.toString(), "by path");
  });

  it("is not talked to when its authority is not trusted, and says what to set", async () => {
    const other = await makeAuthority(folder, "other");
    for (const AWS_CA_BUNDLE of [undefined, other.certFile]) {
      const error = await distrust(await openStore("s3://hob-connections", { ...environment, AWS_CA_BUNDLE }));
      assert.ok(error.message.includes(new URL(gateway.tlsEndpoint).host), error.message);
      assert.match(error.hint ?? "", /AWS_CA_BUNDLE/);
    }
  });

  it("trusts the authorities of NODE_EXTRA_CA_CERTS", async () => {
    const script = `
      import dns from "node:dns";
      dns.lookup = (host, options, done) => (options.all ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4));
      const { openStore } = await import(${JSON.stringify(new URL("../src/store/open-store.ts", import.meta.url).href)});
      const store = await openStore("s3://hob-connections", ${JSON.stringify({ ...environment, AWS_CA_BUNDLE: "" })});
      await store.put("extra", Buffer.from("x"));
    `;
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: gateway.caFile };
    await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", script], { env, timeout: 60_000 });
    assert.ok(await probed.head("extra"));
  });

  it("is not talked to when the certificate is another's or has expired, or there is none", async () => {
    const authority = await makeAuthority(folder, "own");
    const ca = await readFile(authority.certFile, "utf8");
    const config = { bucket: "b", region: "us-east-1", credentials: gateway.credentials, ca };
    const other = await authority.sign("other.test", ["DNS:other.test"]);
    const old = await authority.sign("old.test", ["DNS:old.test"], -1);
    for (const [name, certificate, hint] of [
      ["named.test", other, /path_style=true/],
      ["old.test", old, /renew/],
    ] as const) {
      const server = createServer({ cert: await readFile(certificate.certFile), key: await readFile(certificate.keyFile) });
      await using listener = await listening(server);
      const error = await distrust(new S3Store({ ...config, endpoint: `https://${name}:${listener.port}` }));
      assert.match(error.hint ?? "", hint);
    }
    await using plain = await listening(createPlainServer());
    const error = await distrust(new S3Store({ ...config, endpoint: `https://plain.test:${plain.port}` }));
    assert.match(error.hint ?? "", /http:\/\//);
  });

  it("is not opened with a bundle that is none", async () => {
    const noBundle = join(folder, "no-bundle");
    await writeFile(noBundle, "not PEM");
    for (const AWS_CA_BUNDLE of [noBundle, folder, join(folder, "missing")])
      await assert.rejects(openStore("s3://hob-connections", { ...environment, AWS_CA_BUNDLE }), rejectsWith("invalid_config"));
  });
});

describe("an S3 store's addresses", () => {
  let server: Awaited<ReturnType<typeof startScriptedServer>>;
  before(async () => {
    server = await startScriptedServer();
    server.answer = () => ({ status: 404 });
  });
  after(() => server[Symbol.asyncDispose]());

  const asked = async (description: string): Promise<Pick<SeenRequest, "target"> & { host: string | undefined }> => {
    const { port } = new URL(server.endpoint);
    const store = await openStore(description, { ...environment, AWS_ENDPOINT_URL: `http://${GATEWAY_NAME}:${port}/base` });
    await store.get("k/1");
    const { target, headers } = server.seen.splice(0)[0] as SeenRequest;
    return { target, host: headers.host?.replace(`:${port}`, "") };
  };

  it("have the bucket in the path or in the host's name", async () => {
    assert.deepEqual(await asked("s3://bucket/p"), { target: "/base/bucket/p/k/1", host: GATEWAY_NAME });
    assert.deepEqual(await asked("s3://bucket/p?path_style=false"), { target: "/base/p/k/1", host: `bucket.${GATEWAY_NAME}` });
  });

  it("are those of AWS without an endpoint; a bucket with a dot is in the path, for its certificate's sake", async () => {
    const without = { HOME: folder, ...keys, AWS_REGION: "eu-west-3" };
    const reached = async (description: string): Promise<HobError> => refused(await openStore(description, without));
    assert.match((await reached("s3://bucket")).message, /bucket\.s3\.eu-west-3\.amazonaws\.com cannot be reached/);
    assert.match((await reached("s3://a.bucket")).message, /at s3\.eu-west-3\.amazonaws\.com cannot be reached/);
    assert.match((await reached("s3://a.bucket")).hint ?? "", /check endpoint and region/);
  });
});

describe("an S3 store's settings", () => {
  const opened = async (own: Readonly<Record<string, string>>, description = "s3://hob-connections"): Promise<void> => {
    const store = await openStore(description, { HOME: folder, ...own });
    assert.equal(await store.get("settings/absent"), undefined);
  };

  it("come from a profile alone: keys, region, endpoint and bundle", async () => {
    const credentials = join(folder, "profile-credentials");
    const config = join(folder, "profile-config");
    await writeFile(
      credentials,
      `[hob]\naws_access_key_id = ${gateway.credentials.accessKeyId}\naws_secret_access_key = ${gateway.credentials.secretAccessKey}\n`,
    );
    await writeFile(config, `[profile hob]\nregion = us-east-1\nendpoint_url = ${gateway.tlsEndpoint}\nca_bundle = ${gateway.caFile}\n`);
    const files = { AWS_SHARED_CREDENTIALS_FILE: credentials, AWS_CONFIG_FILE: config };
    await opened({ ...files, AWS_PROFILE: "hob" });
    await opened(files, "s3://hob-connections?profile=hob");
  });

  it("of S3 alone go before those of all services, and an empty one is none", async () => {
    const both = {
      ...keys,
      AWS_CA_BUNDLE: gateway.caFile,
      AWS_ENDPOINT_URL_S3: gateway.tlsEndpoint,
      AWS_ENDPOINT_URL: "http://127.0.0.1:1",
    };
    await opened({ ...both, AWS_REGION: "", AWS_PROFILE: "", AWS_SESSION_TOKEN: "" });
    await opened({ ...both, AWS_ENDPOINT_URL_S3: "", AWS_ENDPOINT_URL: gateway.tlsEndpoint });
    await assert.rejects(opened({ ...both, AWS_ENDPOINT_URL_S3: "s3.example.com" }), rejectsWith("invalid_config"));
  });

  it("that Hob does not read are named at once, without a network", async () => {
    const config = join(folder, "other-sources");
    await writeFile(config, "[profile sso]\nsso_session = x\n[profile role]\nrole_arn = arn:x\nsource_profile = y\n");
    const files = { HOME: folder, AWS_CONFIG_FILE: config };
    const cases = [
      [{ ...files, AWS_PROFILE: "sso" }, /sso_session/],
      [{ ...files, AWS_PROFILE: "role" }, /role_arn/],
      [{ HOME: folder, AWS_WEB_IDENTITY_TOKEN_FILE: "/token", AWS_ROLE_ARN: "arn:x" }, /AWS_WEB_IDENTITY_TOKEN_FILE/],
      [{ HOME: folder, AWS_CONTAINER_CREDENTIALS_FULL_URI: "http://169.254.170.2" }, /AWS_CONTAINER_CREDENTIALS_FULL_URI/],
      [{ HOME: folder }, /there are no credentials/],
    ] as const;
    for (const [own, said] of cases) await assert.rejects(openStore("s3://bucket", own), said);
  });
});
