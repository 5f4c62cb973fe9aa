import assert from "node:assert/strict";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { openStore, parseStoreDescription } from "../src/store/open-store.ts";
import { PrefixStore } from "../src/store/prefix-store.ts";
import { loadS3Settings, parseIni } from "../src/store/s3-credentials.ts";
import { parseErrorAnswer, parseListAnswer } from "../src/store/s3-xml.ts";
import { MemoryStore } from "./support/memory-store.ts";
import { rejectsWith, storeContract } from "./support/store-contract.ts";

const root = await mkdtemp(join(tmpdir(), "hob-store-"));
after(() => rm(root, { recursive: true, force: true }));

const shared = new MemoryStore();
storeContract("the memory of the tests", () => shared);

describe("the description of a store", () => {
  it("names a directory", () => {
    assert.deepEqual(parseStoreDescription("dir:/var/lib/hob store"), { kind: "directory", path: "/var/lib/hob store" });
  });

  it("names a bucket with all its options", () => {
    assert.deepEqual(parseStoreDescription("s3://my-bucket"), { kind: "s3", bucket: "my-bucket" });
    assert.deepEqual(
      parseStoreDescription("s3://b.c-d/p/q/?endpoint=https://s3.example.com:9000/x&region=eu-west-1&path_style=false&profile=me"),
      {
        kind: "s3",
        bucket: "b.c-d",
        prefix: "p/q",
        endpoint: "https://s3.example.com:9000/x",
        region: "eu-west-1",
        pathStyle: false,
        profile: "me",
      },
    );
  });

  it("is refused with a hint otherwise", () => {
    const wrong = [
      "",
      "dir:relative",
      "dir:",
      "/path",
      "https://x",
      "s3://",
      "s3://UPPER_case",
      "s3://b/../x",
      "s3://b/a//b",
      "s3://b?endpiont=x",
      "s3://b?endpoint=ftp://x",
      "s3://b?endpoint=http://u:p@x",
      "s3://b?path_style=yes",
      "s3://key:secret@bucket",
      "s3://b:80/x",
    ];
    for (const text of wrong) assert.throws(() => parseStoreDescription(text), rejectsWith("invalid_config"), text);
    assert.throws(() => parseStoreDescription("s3://b"), /"b" is not the name of a bucket, which has 3 to 63 characters/);
    assert.throws(
      () => parseStoreDescription("s3://key:secret@bucket"),
      (error: Error) => !error.message.includes("secret"),
    );
  });

  it("opens a directory", async () => {
    const store = await openStore(`dir:${root}/new/folder`, {});
    await store.put("a", Buffer.from("x"));
    assert.equal((await (await openStore(`dir:${root}/new/folder`, {})).get("a"))?.data.toString(), "x");
  });

  it("does not make a directory anew that was a store before", async () => {
    const folder = `${root}/away`;
    const store = await openStore(`dir:${folder}`, {}, { exists: true });
    const uses = [() => store.get("a"), () => store.put("a", Buffer.from("x")), () => store.delete("a"), () => store.list("")];
    for (const use of uses) await assert.rejects(use, rejectsWith("store_unavailable"));
    await assert.rejects(stat(folder), { code: "ENOENT" });
    await openStore(`dir:${folder}`, {});
    await store.put("a", Buffer.from("x"));
  });
});

describe("a store's prefix", () => {
  it("confines everything to itself", async () => {
    const inner = new MemoryStore();
    await inner.put("other/secret", Buffer.from("x"));
    await inner.put("mine2/secret", Buffer.from("x"));
    const store = new PrefixStore(inner, "mine");
    for (const key of ["../other/secret", "/other/secret", "./../other/secret", "a/../../other/secret", "..", ""]) {
      await assert.rejects(store.get(key), rejectsWith("invalid_request"));
      await assert.rejects(store.put(key, Buffer.from("x")), rejectsWith("invalid_request"));
      await assert.rejects(store.delete(key), rejectsWith("invalid_request"));
    }
    assert.equal(await store.get("secret"), undefined);
    assert.deepEqual((await store.list("")).objects, []);
    await store.put("a", Buffer.from("x"));
    assert.ok(inner.objects.has("mine/a"));
    assert.throws(() => new PrefixStore(inner, "../x"), rejectsWith("invalid_request"));
  });
});

describe("S3 settings", () => {
  const file = async (name: string, text: string): Promise<string> => {
    await writeFile(join(root, name), text);
    return join(root, name);
  };

  it("come from the environment", async () => {
    const settings = await loadS3Settings({
      HOME: root,
      AWS_ACCESS_KEY_ID: "id",
      AWS_SECRET_ACCESS_KEY: "secret",
      AWS_SESSION_TOKEN: "token",
      AWS_REGION: "r",
      AWS_ENDPOINT_URL: "http://e",
    });
    assert.deepEqual(settings, {
      credentials: { accessKeyId: "id", secretAccessKey: "secret", sessionToken: "token" },
      region: "r",
      endpoint: "http://e",
      ca: undefined,
    });
  });

  it("come from the profile of the shared files", async () => {
    const environment = {
      HOME: "/nonexistent",
      AWS_SHARED_CREDENTIALS_FILE: await file(
        "credentials",
        "# c\n[default]\naws_access_key_id = d\naws_secret_access_key=ds\n\n[work]\naws_access_key_id=w\naws_secret_access_key = w/s+=\n",
      ),
      AWS_CONFIG_FILE: await file(
        "config",
        "[default]\nregion = eu-1\n[profile  work]\nregion=eu-2 ; here\nendpoint_url = https://w\ns3 =\n  addressing_style = path\n",
      ),
    };
    assert.deepEqual(await loadS3Settings(environment), {
      credentials: { accessKeyId: "d", secretAccessKey: "ds" },
      region: "eu-1",
      endpoint: undefined,
      ca: undefined,
    });
    const work = { credentials: { accessKeyId: "w", secretAccessKey: "w/s+=" }, region: "eu-2", endpoint: "https://w", ca: undefined };
    assert.deepEqual(await loadS3Settings({ ...environment, AWS_PROFILE: "work" }), work);
    // A profile that was asked for is used, whatever the environment holds.
    assert.deepEqual(await loadS3Settings({ ...environment, AWS_ACCESS_KEY_ID: "e", AWS_SECRET_ACCESS_KEY: "e" }, "work"), work);
    await assert.rejects(loadS3Settings(environment, "absent"), rejectsWith("invalid_config"));
  });

  it("are missed with a hint", async () => {
    await assert.rejects(loadS3Settings({ HOME: "/nonexistent" }), rejectsWith("invalid_config"));
    await assert.rejects(loadS3Settings({ HOME: "/nonexistent", AWS_CONFIG_FILE: root }), rejectsWith("invalid_config"));
    assert.equal(parseIni("key = outside\n[ a ]\nK = v").get("a")?.k, "v");
  });
});

describe("S3's XML", () => {
  it("is read for lists and errors", () => {
    const xml =
      '<?xml version="1.0"?><ListBucketResult xmlns="x"><Name>b</Name><IsTruncated>true</IsTruncated><Contents><Key>a%2Bb/c&amp;d</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>7</Size></Contents></ListBucketResult>';
    assert.deepEqual(parseListAnswer(xml), {
      truncated: true,
      objects: [{ key: "a+b/c&d", sizeBytes: 7, modifiedAt: new Date("2026-01-02T03:04:05Z") }],
    });
    assert.deepEqual(parseErrorAnswer("<Error><Code>NoSuchKey</Code><Message>a &#x26; b</Message></Error>"), {
      code: "NoSuchKey",
      message: "a & b",
      region: "",
    });
    assert.deepEqual(parseErrorAnswer("<html>"), { code: "", message: "", region: "" });
  });

  it("is refused when it is none", () => {
    assert.throws(() => parseListAnswer("<html></html>"), rejectsWith("store_failed"));
    const cut = "<ListBucketResult><Contents><Key>a</Key>";
    assert.throws(() => parseListAnswer(cut), rejectsWith("store_unavailable"));
    assert.throws(
      () => parseListAnswer("<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>"),
      rejectsWith("store_failed"),
    );
  });
});
