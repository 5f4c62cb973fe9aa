import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, describe, it } from "node:test";
import { exportSprite } from "../src/maintenance/export.ts";
import { fsck } from "../src/maintenance/fsck.ts";
import { collectGarbage } from "../src/maintenance/gc.ts";
import { importSprite } from "../src/maintenance/import.ts";
import { acquire } from "../src/ownership/acquire.ts";
import { forkSprite } from "../src/ownership/fork.ts";
import { BlockReader } from "../src/read/block-reader.ts";
import { probeConditionalWrites, requireConditionalWrites } from "../src/store/conditional-writes.ts";
import { openStore } from "../src/store/open-store.ts";
import { PrefixStore } from "../src/store/prefix-store.ts";
import { RetryingStore } from "../src/store/retrying-store.ts";
import { S3Store } from "../src/store/s3-store.ts";
import { Uploader } from "../src/upload/uploader.ts";
import { applyTo, changesOf, differences } from "./support/blocks.ts";
import { type ProxyFault, startFaultyProxy } from "./support/faulty-proxy.ts";
import { startRadosGateway } from "./support/rados-gateway.ts";
import { rejectsWith, storeContract } from "./support/store-contract.ts";

const gateway = await startRadosGateway();
after(() => gateway[Symbol.asyncDispose]());
const config = await gateway.bucket("hob-contract");

const probed = new S3Store(config);
await probed.probe();
storeContract("S3 (Ceph's RADOS gateway)", () => probed);

describe("the S3 store", () => {
  it("is opened by its description, with credentials of the environment", async () => {
    const environment = {
      HOME: "/nonexistent",
      AWS_ACCESS_KEY_ID: gateway.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: gateway.credentials.secretAccessKey,
    };
    const store = await openStore(
      `s3://hob-contract/some/prefix?endpoint=${encodeURIComponent(gateway.endpoint)}&path_style=true`,
      environment,
    );
    await store.put("x", Buffer.from("by description"));
    assert.equal((await new S3Store(config).get("some/prefix/x"))?.data.toString(), "by description");
  });

  it("says what is wrong with credentials and bucket", async () => {
    const wrong = new S3Store({ ...config, credentials: { ...config.credentials, secretAccessKey: "wrong" } });
    await assert.rejects(wrong.get("x"), rejectsWith("store_failed"));
    await assert.rejects(wrong.put("x", Buffer.from("x")), /403 SignatureDoesNotMatch/);
    const nowhere = new S3Store({ ...config, bucket: "hob-missing" });
    await assert.rejects(nowhere.get("x"), /404 NoSuchBucket/);
    await assert.rejects(nowhere.list(""), rejectsWith("store_failed"));
    await assert.rejects(nowhere.put("x", Buffer.from("x"), { condition: { ifNoneMatch: "*" } }), rejectsWith("store_failed"));
  });

  it("says that nobody answers", async () => {
    const deaf = new S3Store({ ...config, endpoint: "http://127.0.0.1:1", attempts: 2 });
    await assert.rejects(deaf.get("x"), rejectsWith("store_unavailable"));
  });

  it("tries again after 5xx, a lost connection and a cut answer", async () => {
    await using proxy = await startFaultyProxy(gateway.endpoint);
    // The signature covers the host's name, and the gateway takes the one that it is told.
    const store = new S3Store({ ...config, endpoint: proxy.endpoint });
    const data = Buffer.alloc(300_000, "faults");
    for (const fault of ["503", "drop", "drop-after", "cut-answer"] as const) {
      let left = 2;
      proxy.decide = () => (left-- > 0 ? fault : "none");
      await store.put(`faults/${fault}`, data);
      left = 2;
      assert.ok((await store.get(`faults/${fault}`))?.data.equals(data), fault);
      left = 2;
      assert.equal((await store.list(`faults/${fault}`)).objects.length, 1);
      left = 2;
      await store.delete(`faults/${fault}`);
      left = 0;
      assert.equal(await store.head(`faults/${fault}`), undefined);
    }
  });

  it("gives up in the end, and in time", async () => {
    await using proxy = await startFaultyProxy(gateway.endpoint);
    proxy.decide = () => "hang";
    const store = new S3Store({ ...config, endpoint: proxy.endpoint, timeoutMs: 100, attempts: 2 });
    await assert.rejects(store.get("x"), /did not answer in time/);
    assert.equal(proxy.seen.length, 2);
  });

  it("waits for a slow answer, and asks again when a server that hung drops the connection", async () => {
    await using proxy = await startFaultyProxy(gateway.endpoint);
    const store = new S3Store({ ...config, endpoint: proxy.endpoint });
    const data = Buffer.alloc(300_000, "slow");
    await store.put("slow", data);
    const asked = Promise.withResolvers<void>();
    const faults: ProxyFault[] = ["hang", { delayMs: 50, bytesPerSecond: 3_000_000 }];
    proxy.decide = () => {
      asked.resolve();
      return faults.shift() ?? "none";
    };
    const slow = store.get("slow");
    await asked.promise;
    setImmediate(() => proxy.endHanging());
    assert.ok((await slow)?.data.equals(data));
    assert.deepEqual(faults, []);
  });

  it("ends at once when it is aborted", async () => {
    await using proxy = await startFaultyProxy(gateway.endpoint);
    proxy.decide = () => "hang";
    const store = new S3Store({ ...config, endpoint: proxy.endpoint });
    const controller = new AbortController();
    const get = store.get("x", { signal: controller.signal });
    controller.abort(new Error("not needed any more"));
    await assert.rejects(get, /not needed any more/);
  });

  it("reports a conditional write once, also when its answer was lost", async () => {
    await using proxy = await startFaultyProxy(gateway.endpoint);
    const store = new S3Store({ ...config, endpoint: proxy.endpoint });
    proxy.decide = () => "drop-after";
    await assert.rejects(store.put("lost", Buffer.from("written"), { condition: { ifNoneMatch: "*" } }), rejectsWith("store_unavailable"));
    assert.equal(proxy.seen.length, 1);
    proxy.decide = () => "none";
    assert.equal((await store.get("lost"))?.data.toString(), "written");
  });

  it("is refused where the store ignores conditions", async () => {
    await using proxy = await startFaultyProxy(gateway.endpoint);
    proxy.withoutConditions = config.credentials;
    const store = new S3Store({ ...config, endpoint: proxy.endpoint });
    const found = await probeConditionalWrites(store);
    assert.equal(found.conditionalWrites, false);
    await assert.rejects(requireConditionalWrites(store), rejectsWith("store_unsupported"));
    assert.deepEqual((await store.list("probe/")).objects, []);
  });

  it("lets the server refuse a body that was damaged on the way", async () => {
    await using proxy = await startFaultyProxy(gateway.endpoint);
    proxy.damageBodies = true;
    const store = new S3Store({ ...config, endpoint: proxy.endpoint, attempts: 1 });
    await assert.rejects(store.put("damaged", Buffer.alloc(1000, "x")), rejectsWith("store_failed"));
    assert.equal(await new S3Store(config).head("damaged"), undefined);
  });

  it("has etags that are MD5, as S3's are", async () => {
    const { etag } = await new S3Store(config).put("md5", Buffer.from("hello"));
    assert.equal(etag, `"${createHash("md5").update("hello").digest("hex")}"`);
  });

  it("carries a sprite's whole life through faults", async () => {
    await using proxy = await startFaultyProxy(gateway.endpoint);
    let number = 0;
    const faults = ["none", "503", "none", "none", "drop", "none", "none", "drop-after", "none", "none", "none", "none", "none"] as const;
    proxy.decide = () => faults[number++ % faults.length] ?? "none";
    const store = new RetryingStore(new PrefixStore(new S3Store({ ...config, endpoint: proxy.endpoint }), "life"));
    const volume = { volumeBytes: 2 ** 30 };
    const owned = await acquire({ store, org: "org", sprite: "s1", owner: "host-1", initial: volume });
    const changes = Array.from({ length: 40 }, (_, block): [number, number] => [block * 300, block + 1]);
    const { root, storedBlocks, startedAt } = await new Uploader({ store, org: "org", packTargetBytes: 500_000 }).upload(
      null,
      changesOf(changes),
    );
    const checkpoint = { id: "v1", comment: "", createdAt: new Date().toISOString(), root, storedBlocks, automatic: false };
    await owned.addCheckpoint(checkpoint, { root, storedBlocks }, { startedAt });
    const fork = await forkSprite({ store, org: "org", source: "s1", checkpoint: "v1", sprite: "f1", owner: "host-1" });
    const other = await acquire({ store, org: "org", sprite: "s1", owner: "host-2", takeOver: true });
    await assert.rejects(owned.publish({ root: null }), rejectsWith("ownership_lost"));
    await other.destroy();
    assert.equal((await collectGarbage({ store, org: "org" })).sprites, 1);
    const reader = new BlockReader({ store, org: "org", root: fork.head.root });
    assert.deepEqual(
      await differences(
        reader,
        applyTo(new Map(), changes),
        changes.map(([block]) => block),
      ),
      [],
    );
    assert.deepEqual((await fsck({ store, org: "org" })).damage, []);
    const source = exportSprite({ store, org: "org", sprite: "f1" });
    const { ownership } = await importSprite({ store, org: "other", sprite: "i1", owner: "host-1", source });
    assert.equal(ownership.head.storedBlocks, 40);
  });
});
