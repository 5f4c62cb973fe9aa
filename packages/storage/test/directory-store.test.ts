import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { DirectoryLock } from "../src/store/directory-lock.ts";
import { DirectoryStore } from "../src/store/directory-store.ts";
import { rejectsWith, storeContract } from "./support/store-contract.ts";

const root = await mkdtemp(join(tmpdir(), "hob-store-"));
const opened: DirectoryStore[] = [];
const open = async (name: string): Promise<DirectoryStore> => {
  const store = await DirectoryStore.open(join(root, name));
  opened.push(store);
  return store;
};
after(async () => {
  for (const store of opened) store.close();
  await rm(root, { recursive: true, force: true });
});

const shared = await open("contract");
storeContract("a directory", () => shared);

const WRITER = join(import.meta.dirname, "support/directory-writer.ts");

describe("a directory store", () => {
  it("keeps objects to their owner", async () => {
    const store = await open("modes");
    await store.put("a/b", Buffer.from("secret"));
    assert.equal((await stat(join(root, "modes/a/b"))).mode & 0o777, 0o600);
    assert.equal((await stat(join(root, "modes/a"))).mode & 0o777, 0o700);
  });

  it("clears what dead writers left, and nothing younger", async () => {
    await open("stale");
    const temporary = join(root, "stale/.tmp");
    await writeFile(join(temporary, "old"), "x");
    await writeFile(join(temporary, "young"), "x");
    const twoHoursAgo = Date.now() / 1000 - 7200;
    await utimes(join(temporary, "old"), twoHoursAgo, twoHoursAgo);
    await open("stale");
    assert.deepEqual(await readdir(temporary), ["young"]);
  });

  it("leaves nothing of a write that fails", async () => {
    const store = await open("failing");
    await store.put("a", Buffer.from("file"));
    await assert.rejects(store.put("a/b", Buffer.from("below a file")), rejectsWith("store_failed"));
    assert.deepEqual(await readdir(join(root, "failing/.tmp")), []);
  });

  it("shows no foreign files and follows no links", async () => {
    const store = await open("foreign");
    await store.put("a/b", Buffer.from("x"));
    await mkdir(join(root, "foreign/.hidden"));
    await writeFile(join(root, "foreign/a/white space"), "x");
    await writeFile(join(root, "foreign/a/.hidden"), "x");
    assert.deepEqual(
      (await store.list("")).objects.map(({ key }) => key),
      ["a/b"],
    );
  });

  it("says that it is away, and not that its objects are gone, until it is back", async () => {
    const store = await open("away");
    await store.put("a/b", Buffer.from("x"));
    const away = async () => {
      const calls = [
        () => store.get("a/b"),
        () => store.get("a/none"),
        () => store.head("a/b"),
        () => store.put("a/c", Buffer.from("y")),
        () => store.delete("a/b"),
        () => store.list(""),
      ];
      for (const call of calls) await assert.rejects(call, rejectsWith("store_unavailable"));
    };
    await rename(join(root, "away"), join(root, "elsewhere"));
    await away();
    // What is left where a disk was mounted.
    await mkdir(join(root, "away"));
    await away();
    await rm(join(root, "away"), { recursive: true });
    await rename(join(root, "elsewhere"), join(root, "away"));
    assert.equal((await store.get("a/b"))?.data.toString(), "x");
    assert.equal(await store.get("a/none"), undefined);
    await store.put("a/c", Buffer.from("y"));
    assert.equal((await store.list("")).objects.length, 2);
  });

  it("holds conditions between processes when the folder was put in place anew", async () => {
    const store = await open("anew");
    await store.put("counter", Buffer.from("0"));
    await rm(join(root, "anew"), { recursive: true });
    const other = await open("anew");
    await other.put("counter", Buffer.from("0"));
    const lock = new DirectoryLock(join(root, "anew/.lock"));
    const { promise, resolve } = Promise.withResolvers<void>();
    const holding = lock.run(() => promise);
    let isWritten = false;
    const writing = store.put("counter", Buffer.from("1")).then(() => {
      isWritten = true;
    });
    // More than an uncontended write takes: it has come to the lock when others of its kind are through.
    for (let i = 0; i < 20; i++) await stat(join(root, "anew"));
    while ((await readdir(join(root, "anew/.tmp"))).length === 0) assert.equal(isWritten, false, "it went past the lock");
    for (let i = 0; i < 20; i++) await stat(join(root, "anew"));
    assert.equal(isWritten, false, "it went past the lock");
    resolve();
    await holding;
    await writing;
    lock.close();
  });

  it("holds conditions between processes", async () => {
    const store = await open("processes");
    await store.put("counter", Buffer.from("0"));
    const children = [0, 1, 2].map(() => fork(WRITER, ["count", join(root, "processes"), "40"]));
    const codes = await Promise.all(children.map(async (child) => (await once(child, "exit"))[0]));
    assert.deepEqual(codes, [0, 0, 0]);
    assert.equal((await store.get("counter"))?.data.toString(), "120");
  });

  it("has every acknowledged object whole after kill -9, and lets others write", async () => {
    const path = join(root, "killed");
    const store = await open("killed");
    for (let round = 0; round < 5; round++) {
      const child = fork(WRITER, ["write", path, String(round)], { silent: true });
      const acknowledged: string[] = [];
      const { promise: enough, resolve } = Promise.withResolvers<void>();
      let text = "";
      child.stdout?.on("data", (data) => {
        text += data;
        const lines = text.split("\n");
        text = lines.pop() ?? "";
        acknowledged.push(...lines);
        if (acknowledged.length >= 5 + round * 3) resolve();
      });
      await enough;
      child.kill("SIGKILL");
      await once(child, "exit");
      for (const line of acknowledged) {
        const [key = "", content = ""] = line.split(" ");
        const object = await store.get(key);
        assert.ok(object?.data.equals(Buffer.alloc(200_000, content)), `${key} is not what was acknowledged`);
      }
      await store.put("after", Buffer.from(String(round)));
    }
    const { objects } = await store.list("");
    for (const { key, sizeBytes } of objects) if (key !== "after") assert.equal(sizeBytes, 200_000, `${key} is cut short`);
    assert.equal((await readFile(join(path, "after"))).toString(), "4");
  });
});
