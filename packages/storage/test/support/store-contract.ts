import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, it } from "node:test";
import { HobError } from "@hob/protocol";
import { listAll } from "../../src/store/list-all.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { PrefixStore } from "../../src/store/prefix-store.ts";

export const rejectsWith = (code: string) => (error: unknown) => error instanceof HobError && error.code === code;

/** What every backend must do. `open` gives the same store each time; each test works below a prefix of its own. */
export function storeContract(name: string, open: () => ObjectStore | Promise<ObjectStore>): void {
  const fresh = async (): Promise<ObjectStore> => new PrefixStore(await open(), `contract-${randomBytes(6).toString("hex")}`);

  describe(`${name} keeps the contract of object stores`, () => {
    it("gives back what was put, whole and in part", async () => {
      const store = await fresh();
      const data = randomBytes(100_000);
      const { etag } = await store.put("a/b/c.bin", data);
      const whole = await store.get("a/b/c.bin");
      assert.deepEqual(whole?.data, data);
      assert.equal(whole?.etag, etag);
      const part = await store.get("a/b/c.bin", { range: { offset: 10, length: 500 } });
      assert.deepEqual(part?.data, data.subarray(10, 510));
      const cut = await store.get("a/b/c.bin", { range: { offset: 99_999, length: 500 } });
      assert.deepEqual(cut?.data, data.subarray(99_999));
      const beyond = await store.get("a/b/c.bin", { range: { offset: 100_000, length: 1 } });
      assert.equal(beyond?.data.length, 0);
    });

    it("keeps an empty object", async () => {
      const store = await fresh();
      await store.put("empty", Buffer.alloc(0));
      assert.equal((await store.get("empty"))?.data.length, 0);
      assert.equal((await store.head("empty"))?.sizeBytes, 0);
    });

    it("keeps an object of the largest size", async () => {
      const store = await fresh();
      const data = Buffer.alloc(32 * 1024 * 1024, randomBytes(1000));
      await store.put("large", data);
      assert.ok((await store.get("large"))?.data.equals(data));
      await assert.rejects(store.put("larger", Buffer.alloc(32 * 1024 * 1024 + 1)), rejectsWith("payload_too_large"));
    });

    it("replaces an object", async () => {
      const store = await fresh();
      const first = await store.put("x", Buffer.from("one"));
      const second = await store.put("x", Buffer.from("two"));
      assert.notEqual(first.etag, second.etag);
      assert.equal((await store.get("x"))?.data.toString(), "two");
    });

    it("says what is not there", async () => {
      const store = await fresh();
      assert.equal(await store.get("nothing"), undefined);
      assert.equal(await store.get("nothing/below", { range: { offset: 0, length: 1 } }), undefined);
      assert.equal(await store.head("nothing"), undefined);
      await store.delete("nothing");
      assert.deepEqual((await store.list("nothing")).objects, []);
    });

    it("deletes", async () => {
      const store = await fresh();
      await store.put("d/one", Buffer.from("1"));
      await store.delete("d/one");
      assert.equal(await store.get("d/one"), undefined);
      await store.put("d/one", Buffer.from("2"));
      assert.equal((await store.get("d/one"))?.data.toString(), "2");
    });

    it("describes an object", async () => {
      const store = await fresh();
      const before = Date.now();
      const { etag } = await store.put("described", Buffer.from("12345"));
      const info = await store.head("described");
      assert.equal(info?.sizeBytes, 5);
      assert.equal(info?.etag, etag);
      assert.equal(info?.key, "described");
      assert.ok(Math.abs((info?.modifiedAt.getTime() ?? 0) - before) < 60_000);
    });

    it("refuses to take more into memory than asked for", async () => {
      const store = await fresh();
      await store.put("big", Buffer.alloc(1000));
      await assert.rejects(store.get("big", { maxBytes: 999 }), rejectsWith("payload_too_large"));
      assert.equal((await store.get("big", { maxBytes: 10, range: { offset: 5, length: 10 } }))?.data.length, 10);
    });

    it("creates only where there is nothing", async () => {
      const store = await fresh();
      await store.put("c", Buffer.from("first"), { condition: { ifNoneMatch: "*" } });
      await assert.rejects(store.put("c", Buffer.from("second"), { condition: { ifNoneMatch: "*" } }), rejectsWith("precondition_failed"));
      assert.equal((await store.get("c"))?.data.toString(), "first");
    });

    it("replaces only what it was told to", async () => {
      const store = await fresh();
      await assert.rejects(store.put("r", Buffer.from("0"), { condition: { ifMatch: '"none"' } }), rejectsWith("precondition_failed"));
      const first = await store.put("r", Buffer.from("1"));
      const second = await store.put("r", Buffer.from("2"), { condition: { ifMatch: first.etag } });
      await assert.rejects(store.put("r", Buffer.from("3"), { condition: { ifMatch: first.etag } }), rejectsWith("precondition_failed"));
      const read = await store.get("r");
      assert.equal(read?.data.toString(), "2");
      assert.equal(read?.etag, second.etag);
      await store.put("r", Buffer.from("4"), { condition: { ifMatch: (await store.head("r"))?.etag ?? "" } });
      await store.delete("r");
      await assert.rejects(store.put("r", Buffer.from("5"), { condition: { ifMatch: second.etag } }), rejectsWith("precondition_failed"));
    });

    it("lets one of many writers win", async () => {
      const store = await fresh();
      const creates = Array.from({ length: 10 }, (_, n) => store.put("race", Buffer.from(`c${n}`), { condition: { ifNoneMatch: "*" } }));
      const created = (await Promise.allSettled(creates)).filter((one) => one.status === "fulfilled");
      assert.equal(created.length, 1);
      const etag = (await store.get("race"))?.etag ?? "";
      const replaces = Array.from({ length: 10 }, (_, n) => store.put("race", Buffer.from(`r${n}`), { condition: { ifMatch: etag } }));
      const replaced = (await Promise.allSettled(replaces)).filter((one) => one.status === "fulfilled");
      assert.equal(replaced.length, 1);
    });

    it("lists by prefix, in order, page by page", async () => {
      const store = await fresh();
      const keys = ["a", "a-b", "a.b", "a/1", "a/10", "a/2", "a/x/y", "a0", "b/1", "B"];
      for (const key of [...keys].reverse()) if (key !== "a") await store.put(key, Buffer.from(key));
      const expected = keys.filter((key) => key !== "a").sort();
      const all: string[] = [];
      let after: string | undefined;
      do {
        const page = await store.list("", { limit: 2, ...(after === undefined ? {} : { after }) });
        assert.ok(page.objects.length <= 2);
        all.push(...page.objects.map(({ key }) => key));
        after = page.next;
      } while (after !== undefined);
      assert.deepEqual(all, expected);
      const below: string[] = [];
      for await (const { key } of listAll(store, "a/")) below.push(key);
      assert.deepEqual(below, ["a/1", "a/10", "a/2", "a/x/y"]);
      assert.deepEqual(
        (await store.list("a")).objects.map(({ key }) => key),
        expected.filter((key) => key.startsWith("a")),
      );
      assert.equal((await store.list("a/10")).objects[0]?.sizeBytes, 4);
    });

    it("refuses keys that are no keys", async () => {
      const store = await fresh();
      for (const key of ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a/.b", "a b", "a\0b", "ä", "a".repeat(600)]) {
        await assert.rejects(store.put(key, Buffer.from("x")), rejectsWith("invalid_request"), key);
        await assert.rejects(store.get(key), rejectsWith("invalid_request"), key);
        await assert.rejects(store.delete(key), rejectsWith("invalid_request"), key);
      }
      await assert.rejects(store.list("../"), rejectsWith("invalid_request"));
      await assert.rejects(store.get("a", { range: { offset: -1, length: 1 } }), rejectsWith("invalid_request"));
      await assert.rejects(store.get("a", { range: { offset: 0, length: 0 } }), rejectsWith("invalid_request"));
    });

    it("does not begin what was aborted", async () => {
      const store = await fresh();
      const signal = AbortSignal.abort(new Error("enough"));
      await assert.rejects(store.put("aborted", Buffer.from("x"), { signal }), /enough/);
      await assert.rejects(store.get("aborted", { signal }), /enough/);
      assert.equal(await store.head("aborted"), undefined);
    });

    it("is found to honour conditions", async () => {
      const store = await fresh();
      assert.deepEqual(await store.probe(), { conditionalWrites: true });
      assert.deepEqual((await store.list("probe/")).objects, []);
    });
  });
}
