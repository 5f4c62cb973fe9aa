/** What S3 servers may answer and the gateway of the other tests does not, by documents of AWS. */
import assert from "node:assert/strict";
import { after, beforeEach, describe, it } from "node:test";
import { HobError } from "@hob/protocol";
import { acquire } from "../src/ownership/acquire.ts";
import { requireConditionalWrites } from "../src/store/conditional-writes.ts";
import { listAll } from "../src/store/list-all.ts";
import { RetryingStore } from "../src/store/retrying-store.ts";
import { connectionError } from "../src/store/s3-error.ts";
import { S3Store } from "../src/store/s3-store.ts";
import {
  emulateObjects,
  inTurn,
  type ScriptedAnswer,
  type SeenRequest,
  s3Refusal,
  startScriptedServer,
} from "./support/scripted-server.ts";
import { rejectsWith } from "./support/store-contract.ts";

const server = await startScriptedServer();
after(() => server[Symbol.asyncDispose]());

const config = {
  bucket: "b",
  region: "us-east-1",
  endpoint: server.endpoint,
  credentials: { accessKeyId: "id", secretAccessKey: "secret" },
};
const store = new S3Store(config);
const impatient = new S3Store({ ...config, attempts: 1 });

beforeEach(() => server.seen.splice(0));

/** The error of a GET that gets this answer. */
async function refusal(answer: ScriptedAnswer, ask: (store: S3Store) => Promise<unknown> = (one) => one.get("x")): Promise<HobError> {
  server.answer = () => answer;
  let thrown: unknown;
  await assert.rejects(ask(impatient), (error) => {
    thrown = error;
    return true;
  });
  assert.ok(thrown instanceof HobError, String(thrown));
  return thrown;
}

const listed = (keys: readonly string[], more = "<IsTruncated>false</IsTruncated>"): ScriptedAnswer => ({
  status: 200,
  body: `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${more}<EncodingType>url</EncodingType>${keys
    .map(
      (key) =>
        `<Contents><Key>${encodeURIComponent(key)}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><Size>1</Size></Contents>`,
    )
    .join("")}</ListBucketResult>`,
});

describe("an S3 store's refusals", () => {
  it("come with what to do", async () => {
    const hints: readonly (readonly [ScriptedAnswer, RegExp])[] = [
      [s3Refusal(403, "InvalidAccessKeyId"), /does not know the access key/],
      [s3Refusal(403, "SignatureDoesNotMatch"), /AWS_SECRET_ACCESS_KEY/],
      [s3Refusal(403, "AccessDenied"), /s3:ListBucket/],
      [s3Refusal(400, "ExpiredToken"), /session token has expired/],
      [s3Refusal(400, "InvalidToken"), /AWS_SESSION_TOKEN/],
      [s3Refusal(404, "NoSuchBucket"), /make the bucket/],
      [s3Refusal(301, "PermanentRedirect", { "x-amz-bucket-region": "eu-west-3" }), /region eu-west-3: set region=eu-west-3/],
      [s3Refusal(307, "TemporaryRedirect", { "x-amz-bucket-region": "eu-west-3" }), /region eu-west-3/],
      [s3Refusal(400, "AuthorizationHeaderMalformed", {}, "<Region>ap-south-1</Region>"), /region=ap-south-1/],
      [s3Refusal(301, "PermanentRedirect", { "x-amz-bucket-region": "a b; rm" }), /^check region and endpoint/],
      [s3Refusal(403, "Unheard"), /check the credentials/],
    ];
    for (const [answer, hint] of hints) {
      const error = await refusal(answer);
      assert.equal(error.code, "store_failed", answer.body);
      assert.match(error.message, new RegExp(`answered GET x with ${answer.status} \\w+ told to`));
      assert.match(error.hint ?? "", hint);
      assert.ok(!error.retryable);
    }
  });

  it("say how far the clock is off", async () => {
    const hintAt = async (offMs: number): Promise<string | undefined> =>
      (await refusal(s3Refusal(403, "RequestTimeTooSkewed", { date: new Date(Date.now() + offMs).toUTCString() }))).hint;
    assert.match((await hintAt(3_600_000)) ?? "", /clock is (3599|3600) s behind the store's/);
    assert.match((await hintAt(-3_600_000)) ?? "", /clock is 360\d s ahead of the store's/);
    assert.match((await refusal(s3Refusal(403, "RequestTimeTooSkewed", { date: "never" }))).hint ?? "", /not that of the store/);
  });

  it("are understood without a body, as those of HEAD are", async () => {
    server.answer = () => ({ status: 404 });
    assert.equal(await store.head("x"), undefined);
    const elsewhere = await refusal({ status: 301, headers: { "x-amz-bucket-region": "eu-west-3" } }, (one) => one.head("x"));
    assert.match(elsewhere.hint ?? "", /region=eu-west-3/);
    assert.equal((await refusal({ status: 403 }, (one) => one.head("x"))).code, "store_failed");
  });

  it("are told at once, also while a body is on its way", async () => {
    const error = await refusal(s3Refusal(403, "AccessDenied", { connection: "close" }), (one) => one.put("x", Buffer.alloc(20_000_000)));
    assert.match(error.message, /AccessDenied/);
  });

  it("are tried again when they pass", async () => {
    for (const passing of [
      s3Refusal(503, "SlowDown"),
      s3Refusal(500, "InternalError"),
      s3Refusal(400, "RequestTimeout"),
      s3Refusal(429, "TooManyRequests"),
      { status: 502, body: "<html>no gateway</html>" },
    ]) {
      server.answer = inTurn(passing, passing, { status: 200, headers: { etag: '"e"' } });
      const tried = new RetryingStore(store, { firstPauseMs: 1 });
      assert.deepEqual(await tried.put("x", Buffer.from("x")), { etag: '"e"' });
      assert.equal(server.seen.splice(0).length, 3, passing.body);
    }
  });
});

describe("an S3 store's objects", () => {
  it("come whole or are asked for again", async () => {
    const whole = { status: 200, headers: { etag: '"e"' }, body: "0123456789" };
    server.answer = inTurn({ ...whole, cutAfter: 4 }, { ...whole, cutAfter: 0 }, whole);
    assert.equal((await store.get("x"))?.data.toString(), "0123456789");
    assert.equal(server.seen.length, 3);
  });

  it("are refused when their size is asked for and not told", async () => {
    server.answer = () => ({ status: 200, headers: { etag: '"e"', "content-length": 7 } });
    assert.equal((await store.head("x"))?.sizeBytes, 7);
    server.answer = () => ({ status: 200, headers: { etag: '"e"', "transfer-encoding": "chunked" } });
    await assert.rejects(store.head("x"), rejectsWith("store_failed"));
  });

  it("are cut to the range by the client of a server that ignores it", async () => {
    server.answer = () => ({ status: 200, headers: { etag: '"e"' }, body: "0123456789" });
    assert.equal((await store.get("x", { range: { offset: 2, length: 3 } }))?.data.toString(), "234");
  });

  it("go out as they are, with their hash signed and no checksum that some servers do not know", async () => {
    server.answer = () => ({ status: 200, headers: { etag: '"e"' } });
    await store.put("x", Buffer.from("plain"));
    const { headers, body } = server.seen[0] as SeenRequest;
    assert.equal(body.toString(), "plain");
    assert.equal(headers["content-length"], "5");
    assert.match(headers["x-amz-content-sha256"] as string, /^[0-9a-f]{64}$/);
    const extensions = Object.keys(headers).filter((name) =>
      /^x-amz-(checksum|sdk|trailer|decoded)|^(content-encoding|expect|transfer-encoding)$/.test(name),
    );
    assert.deepEqual(extensions, []);
  });

  it("are asked for with the session's token, which is signed", async () => {
    const session = new S3Store({ ...config, credentials: { ...config.credentials, sessionToken: "a/session=" } });
    server.answer = () => ({ status: 404 });
    await session.get("x");
    const { headers } = server.seen[0] as SeenRequest;
    assert.equal(headers["x-amz-security-token"], "a/session=");
    assert.match(headers.authorization ?? "", /SignedHeaders=[^,]*x-amz-security-token/);
  });

  it("end the wait for a server that changes the protocol", async () => {
    const error = await refusal({ status: 101, headers: { connection: "upgrade", upgrade: "other" } });
    assert.equal(error.code, "store_unavailable");
  });
});

describe("an S3 store's lists", () => {
  const all = Array.from({ length: 2500 }, (_, number) => `p/${String(number).padStart(5, "0")}`);

  it("are read page by page, a thousand keys each", async () => {
    server.answer = ({ target }) => {
      const query = new URL(target, server.endpoint).searchParams;
      const rest = all.filter((key) => key > (query.get("start-after") ?? ""));
      const page = rest.slice(0, Number(query.get("max-keys")));
      return listed(page, `<IsTruncated>${rest.length > page.length}</IsTruncated>`);
    };
    const found: string[] = [];
    for await (const { key } of listAll(store, "p/")) found.push(key);
    assert.deepEqual(found, all);
    assert.equal(server.seen.length, 3);
  });

  it("keep keys of others as they are", async () => {
    server.answer = () => listed(["p/a b+c&d/é", "p/z"]);
    assert.deepEqual(
      (await store.list("p/")).objects.map(({ key }) => key),
      ["p/a b+c&d/é", "p/z"],
    );
  });

  it("go on after pages without an object", async () => {
    const empty = listed([], "<IsTruncated>true</IsTruncated><NextContinuationToken>to/ken=&amp;</NextContinuationToken>");
    server.answer = inTurn(empty, empty, listed(["p/1"]));
    assert.deepEqual(
      (await store.list("p/")).objects.map(({ key }) => key),
      ["p/1"],
    );
    assert.equal(new URL(server.seen[2]?.target ?? "", server.endpoint).searchParams.get("continuation-token"), "to/ken=&");
    server.answer = () => listed([], "<IsTruncated>true</IsTruncated>");
    await assert.rejects(store.list("p/"), rejectsWith("store_failed"));
    server.answer = () => empty;
    await assert.rejects(store.list("p/"), rejectsWith("store_failed"));
  });

  it("are refused when something may be missing", async () => {
    const failed: readonly ScriptedAnswer[] = [
      listed(["p/2", "p/1"]),
      listed(["p/1", "p/1"]),
      listed(["p/1"], ""),
      { status: 200, body: "<html>welcome</html>" },
      s3Refusal(200, "InternalError"),
    ];
    for (const answer of failed) assert.equal((await refusal(answer, (one) => one.list("p/"))).code, "store_failed", answer.body);
    const short = listed(["p/1", "p/2"]);
    const cut = { ...short, body: short.body?.slice(0, -60) ?? "" };
    assert.equal((await refusal(cut, (one) => one.list("p/"))).code, "store_unavailable");
    server.answer = () => listed(["p/1"]);
    await assert.rejects(store.list("p/", { after: "p/5" }), rejectsWith("store_failed"), "start-after is ignored");
  });
});

describe("an S3 store's conditional writes", () => {
  const condition = { ifMatch: '"old"' };

  it("fail where another write won, and where the object is gone", async () => {
    for (const answer of [s3Refusal(412, "PreconditionFailed"), s3Refusal(404, "NoSuchKey")]) {
      const error = await refusal(answer, (one) => one.put("x", Buffer.from("x"), { condition }));
      assert.equal(error.code, "precondition_failed");
    }
  });

  it("are to be tried again after a conflict, which wrote nothing", async () => {
    for (const code of ["ConditionalRequestConflict", "OperationAborted"]) {
      const error = await refusal(s3Refusal(409, code), (one) => one.put("x", Buffer.from("x"), { condition }));
      assert.equal(error.code, "store_unavailable");
    }
  });

  it("are found through conflicts, and a sprite is taken through them", async () => {
    const objects = emulateObjects(["if-match", "if-none-match"]);
    let conditional = 0;
    server.answer = (request) => {
      const asked = request.headers["if-match"] ?? request.headers["if-none-match"];
      return asked !== undefined && conditional++ % 2 === 0 ? s3Refusal(409, "ConditionalRequestConflict") : objects(request);
    };
    const owned = await acquire({ store: new S3Store(config), org: "org", sprite: "s1", owner: "host", initial: { volumeBytes: 2 ** 30 } });
    assert.equal(owned.head.epoch, 1);
  });

  it("are missed in stores that lack them", async () => {
    const lacking: readonly (readonly [(request: SeenRequest) => ScriptedAnswer, RegExp])[] = [
      [emulateObjects([]), /If-None-Match: \* replaces an object/],
      [emulateObjects(["if-match"]), /If-None-Match: \* replaces an object/],
      [emulateObjects(["if-none-match"]), /If-Match with an old etag replaces/],
      [emulateObjects(["if-none-match"], s3Refusal(501, "NotImplemented")), /If-Match with the right etag is refused/],
      [emulateObjects(["if-none-match"], s3Refusal(412, "PreconditionFailed")), /If-Match with the right etag is refused/],
      [emulateObjects([], s3Refusal(501, "NotImplemented")), /If-Match with the right etag is refused/],
      [emulateObjects(["if-match"], s3Refusal(501, "NotImplemented")), /If-None-Match: \* is refused where there is no object/],
    ];
    for (const [answer, reason] of lacking) {
      server.answer = answer;
      const one = new S3Store(config);
      await assert.rejects(requireConditionalWrites(one), rejectsWith("store_unsupported"), String(reason));
      await assert.rejects(requireConditionalWrites(one), reason);
      assert.equal(server.seen.at(-1)?.method, "DELETE", "nothing is left");
    }
    server.answer = emulateObjects(["if-match", "if-none-match"]);
    await requireConditionalWrites(new S3Store(config));
  });
});

describe("a connection to an S3 store that breaks by TLS", () => {
  const broken = (code: string, message: string) => connectionError("s3.test", Object.assign(new Error(message), { code }));

  it("is tried again after damage on the way and a server's own fault, and not where both sides never agree", () => {
    const passing = [
      broken("ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "decryption failed or bad record mac"),
      broken("ERR_SSL_SSL/TLS_ALERT_BAD_RECORD_MAC", "ssl/tls alert bad record mac"),
      broken("ERR_SSL_TLSV1_ALERT_INTERNAL_ERROR", "tlsv1 alert internal error"),
      broken("EPROTO", "write EPROTO 0A0003FC:SSL routines:ssl3_read_bytes:ssl/tls alert bad record mac"),
    ];
    for (const error of passing) assert.equal(error.code, "store_unavailable", error.message);
    for (const code of ["ERR_SSL_WRONG_VERSION_NUMBER", "EPROTO", "CERT_HAS_EXPIRED"])
      assert.equal(broken(code, "wrong version number").code, "store_failed", code);
  });
});
