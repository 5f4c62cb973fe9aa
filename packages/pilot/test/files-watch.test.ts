import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { WebSocket } from "ws";
import { containerUnavailable } from "./support/container.ts";
import { useContainer } from "./support/container-suite.ts";
import { startFilesServer } from "./support/files-server.ts";
import { collect, waitFor } from "./support/helper.ts";

const LIMIT = { timeout: 60_000 };

interface Message {
  type: string;
  event?: string;
  path?: string;
  paths?: string[];
  message?: string;
  code?: string;
  size?: number;
  isDir?: boolean;
  timestamp?: string;
}

describe("fs/watch", { skip: containerUnavailable() ?? false }, () => {
  const suite = useContainer(startFilesServer);

  const run = async (script: string) => {
    const spec = {
      argv: ["bash", "-c", script],
      env: { PATH: "/usr/bin:/bin" },
      cwd: "/home/sprite",
      uid: 1000,
      gid: 1000,
      user: "sprite",
    };
    const { code, stderr } = await collect(suite.helper.client, { ...spec, target: suite.container.target });
    assert.equal(code, 0, stderr);
  };
  const connect = async () => {
    const socket = new WebSocket(suite.server.webSocketURL, { headers: { authorization: suite.server.authorization } });
    const messages: Message[] = [];
    socket.on("message", (data) => messages.push(JSON.parse(String(data)) as Message));
    await once(socket, "open");
    const send = (message: unknown) => socket.send(typeof message === "string" ? message : JSON.stringify(message));
    const next = async (type?: string) => {
      await waitFor(() => messages.some((message) => type === undefined || message.type === type), `message ${type ?? ""}`);
      const index = messages.findIndex((message) => type === undefined || message.type === type);
      return messages.splice(index, 1)[0] as Message;
    };
    const told = (path: string, event: string) => messages.some((message) => message.path === path && message.event === event);
    const subscribe = async (paths: string[], more: object = {}) => {
      send({ type: "subscribe", paths, workingDir: "/home/sprite", ...more });
      return next();
    };
    return { socket, messages, send, next, told, subscribe, [Symbol.dispose]: () => socket.terminate() };
  };
  const at = (name: string) => `/home/sprite/${name}`;

  test("each kind of change, with what it is about", LIMIT, async () => {
    await run("mkdir kinds; echo x > kinds/old");
    using client = await connect();
    assert.deepEqual(await client.subscribe(["kinds"]), { type: "subscribed", paths: [at("kinds")] });
    const expect = async (script: string, ...wanted: [event: string, name: string][]) => {
      await run(script);
      for (const [event, name] of wanted) {
        await waitFor(() => client.told(at(`kinds/${name}`), event), `${event} ${name} in ${JSON.stringify(client.messages)}`);
      }
      return client.messages.splice(0);
    };
    const created = await expect("echo 12345 > kinds/new", ["create", "new"], ["write", "new"]);
    assert.ok(
      created.every(({ type, isDir, timestamp }) => type === "event" && isDir === false && !Number.isNaN(Date.parse(timestamp ?? ""))),
    );
    assert.equal(created.find(({ event }) => event === "write")?.size, 6);
    await expect("chmod 600 kinds/new", ["chmod", "new"]);
    await expect("mv kinds/new kinds/newer", ["rename", "new"], ["create", "newer"]);
    await expect("rm kinds/newer", ["remove", "newer"]);
    const folder = await expect("mkdir kinds/dir", ["create", "dir"]);
    assert.equal(folder[0]?.isDir, true);
    await run("touch kinds/dir/below; rmdir kinds/dir 2>/dev/null; touch kinds/last");
    await waitFor(() => client.told(at("kinds/last"), "create"), "last event");
    assert.ok(!client.messages.some(({ path }) => path === at("kinds/dir/below")), "not recursive");
  });

  test("a write over the API is a creation and a write, without its temporary file", LIMIT, async () => {
    await run("mkdir api");
    using client = await connect();
    await client.subscribe(["api"]);
    await suite.server.sdk("/home/sprite").writeFile("api/file", "x");
    await suite.server.sdk("/home/sprite").rm("api/file");
    await waitFor(() => client.told(at("api/file"), "remove"), "removal");
    assert.deepEqual(
      client.messages.map(({ event, path }) => [event, path]),
      [
        ["create", at("api/file")],
        ["write", at("api/file")],
        ["remove", at("api/file")],
      ],
    );
  });

  test("recursive: directories that appear, with what is in them by then, move and vanish", LIMIT, async () => {
    await run("mkdir -p deep/a/b elsewhere/full/sub");
    using client = await connect();
    await client.subscribe(["deep"], { recursive: true });
    await run("touch deep/a/b/one");
    await waitFor(() => client.told(at("deep/a/b/one"), "create"), "event in an old directory");
    await run("mkdir -p deep/x/y/z; touch deep/x/y/z/two");
    await waitFor(() => client.told(at("deep/x/y/z/two"), "create"), "event in a new directory");
    assert.equal(client.messages.filter(({ path, event }) => path === at("deep/x/y") && event === "create").length, 1, "told once");
    await run("mv elsewhere/full deep/moved; sleep 0.2; touch deep/moved/sub/three");
    await waitFor(() => client.told(at("deep/moved/sub/three"), "create"), "event in a directory that was moved in");
    await run("mv deep/moved deep/renamed; sleep 0.2; touch deep/renamed/sub/four");
    await waitFor(() => client.told(at("deep/renamed/sub/four"), "create"), "event under the new name");
    await run("mv deep/renamed elsewhere/out; touch elsewhere/out/sub/five; touch deep/end");
    await waitFor(() => client.told(at("deep/end"), "create"), "last event");
    assert.ok(!client.messages.some(({ path }) => path?.endsWith("five")), "what was moved out is watched no more");
  });

  test("a single file, also when another is put in its place", LIMIT, async () => {
    await run("mkdir one; echo x > one/file; echo x > one/other");
    using client = await connect();
    await client.subscribe(["one/file"]);
    await run("echo y > one/other; echo y >> one/file");
    assert.deepEqual([(await client.next()).path, client.messages.length], [at("one/file"), 0]);
    await run("echo z > one/new; mv one/new one/file; echo z >> one/file");
    await waitFor(() => client.told(at("one/file"), "create") && client.told(at("one/file"), "write"), "events of the new file");
  });

  test("errors, unsubscribing, several paths", LIMIT, async () => {
    await run("mkdir -p p1 p2 closed; chmod 0 closed");
    using client = await connect();
    client.send({ type: "subscribe", paths: ["p1", "nowhere", "closed", "p2"], workingDir: "/home/sprite" });
    const errors = [await client.next("error"), await client.next("error")];
    assert.deepEqual(
      errors.map(({ code, path }) => [code, path]),
      [
        ["ENOENT", at("nowhere")],
        ["EACCES", at("closed")],
      ],
    );
    assert.deepEqual((await client.next("subscribed")).paths, [at("p1"), at("p2")]);
    for (const bad of [
      "{",
      "[]",
      '{"type":"subscribe"}',
      '{"type":"subscribe","paths":[]}',
      '{"type":"subscribe","paths":["a\\u0000b"]}',
      '{"type":"other"}',
    ]) {
      client.send(bad);
      assert.equal((await client.next()).type, "error", bad);
    }
    client.send({ type: "unsubscribe", paths: ["p1"], workingDir: "/home/sprite" });
    assert.deepEqual((await client.next("unsubscribed")).paths, [at("p1")]);
    await run("touch p1/x p2/x");
    assert.equal((await client.next("event")).path, at("p2/x"));
    await run("rmdir p1; rm -r p2");
    await waitFor(() => client.messages.some(({ type, code }) => type === "error" && code === "ENOENT"), "end of a watch");
    assert.ok(client.told(at("p2"), "remove"));
    assert.ok(!client.messages.some(({ path }) => path?.startsWith(at("p1"))));
  });

  test("a burst of writes is told briefly, an overflow honestly", LIMIT, async () => {
    await run("mkdir burst");
    using client = await connect();
    await client.subscribe(["burst"]);
    await run("perl -e 'for (1..20000) { open F, q(>>), q(burst/log); print F 1; close F }'; touch burst/end");
    await waitFor(() => client.told(at("burst/end"), "create"), "last event", 30_000);
    assert.ok(client.messages.length < 5_000, String(client.messages.length));
  });

  test("more directories than one watch may have are refused", LIMIT, async () => {
    await run("mkdir wide; cd wide; perl -e 'mkdir $_ for 1..8200'");
    using client = await connect();
    client.send({ type: "subscribe", paths: ["wide"], recursive: true, workingDir: "/home/sprite" });
    await waitFor(() => client.messages.length > 0, "answer", 30_000);
    assert.match(client.messages[0]?.message ?? "", /too many directories/);
  });

  test("the helper's work ends with the connection; a request without upgrade is refused", LIMIT, async () => {
    assert.equal((await suite.server.fetch("watch")).status, 400);
    const client = await connect();
    await client.subscribe(["/home/sprite", "/etc"]);
    client.socket.terminate();
    const children = () => readFileSync(`/proc/${suite.helper.process.pid}/task/${suite.helper.process.pid}/children`, "utf8");
    await waitFor(() => children() === "", "end of the helper's work");
  });
});
