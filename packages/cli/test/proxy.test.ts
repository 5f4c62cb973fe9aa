import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { parsePortMapping, parseTarget } from "../src/port-arguments.ts";
import { ScreenWatch } from "../src/terminal/screen-watch.ts";
import { ended, HOB, startHob } from "./support/run-hob.ts";
import { TestTerminal } from "./support/terminal.ts";

const { daemon, home } = await startHob("web");
let server: Server;
const port = () => (server.address() as AddressInfo).port;

before(async () => {
  // What it gets goes back when the sender has ended, so that half-closed connections are seen to work.
  server = createServer({ allowHalfOpen: true }, async (socket) => {
    socket.on("error", () => {});
    const got = await socket.toArray();
    socket.end(`got ${Buffer.concat(got)}`);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
after(() => server.close());

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 15_000; !(await holds()); await sleep(10)) assert.ok(Date.now() < deadline, `not in time: ${what}`);
}

describe("what is written for ports", () => {
  test("mappings", () => {
    assert.deepEqual(parsePortMapping("8080"), { local: 8080, remote: 8080 });
    assert.deepEqual(parsePortMapping("0:80"), { local: 0, remote: 80 });
    for (const text of ["", "0", "x", "1:0", "65536", "1:2:3", ":80", "80:"]) {
      assert.throws(() => parsePortMapping(text), { code: "usage" }, text);
    }
  });

  test("targets", () => {
    assert.deepEqual(parseTarget("localhost:22"), { host: "localhost", port: 22 });
    assert.deepEqual(parseTarget(":22"), { host: "localhost", port: 22 });
    assert.deepEqual(parseTarget("22"), { host: "localhost", port: 22 });
    assert.deepEqual(parseTarget("[::1]:22"), { host: "::1", port: 22 });
    for (const text of ["", "a:", "::1:22", "a:0", "a:b", "[x]:1"]) assert.throws(() => parseTarget(text), { code: "usage" }, text);
  });

  test("whether a full-screen program has the screen, also where a sequence is cut in two", () => {
    const screen = new ScreenWatch();
    const see = (text: string) => {
      screen.see(Buffer.from(text));
      return screen.isFullScreen;
    };
    assert.deepEqual([see("$ vi\r\n\x1b[?10"), see("49h"), see("text"), see("\x1b[?1049l\x1b[?25h")], [false, true, true, false]);
    assert.deepEqual([see("\x1b[?25;1049h"), see("\x1b[?47l")], [true, false]);
  });
});

describe("hob proxy", () => {
  async function start(...args: string[]) {
    const child = home.start(["proxy", "web", ...args]);
    const end = ended(child);
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    return { child, end, local: Number(/^127\.0\.0\.1:(\d+) -> web:/.exec(String(line))?.[1]) };
  }

  test("a local port leads inside, each direction to its end; Ctrl+C ends it", async () => {
    const { child, end, local } = await start(`0:${port()}`);
    for (const text of ["one", "x".repeat(300_000)]) {
      const socket = connect({ port: local, host: "127.0.0.1", allowHalfOpen: true });
      socket.end(text);
      assert.equal(Buffer.concat(await socket.toArray()).toString(), `got ${text}`);
    }
    child.kill("SIGINT");
    assert.equal((await end).status, 0);
    const gone = connect(local, "127.0.0.1");
    assert.match(String(await once(gone, "error").catch((error) => error)), /ECONNREFUSED/);
  });

  test("a port inside on which nothing listens: the connection ends, and why is said", async () => {
    const { child, end, local } = await start("0:1");
    const socket = connect(local, "127.0.0.1");
    socket.on("error", () => {});
    await once(socket, "close");
    child.kill("SIGTERM");
    const { stderr, status } = await end;
    assert.match(stderr, /hob: port 1: connect: nothing listens there/);
    assert.equal(status, 143);
  });

  test("standard input and output", async () => {
    const { stdout, status } = await home.run(["proxy", "web", "-W", `localhost:${port()}`], { input: "hello" });
    assert.deepEqual([stdout.toString(), status], ["got hello", 0]);
  });

  test("what is wrong is said at once", async () => {
    const taken = await home.run(["proxy", "web", String(port())]);
    assert.match(taken.stderr, /EADDRINUSE[\s\S]*hint: choose another local port/);
    assert.match((await home.run(["proxy", "nosuch", "80"])).stderr, /nosuch/);
    for (const args of [["proxy"], ["proxy", "web"], ["proxy", "web", "x"], ["proxy", "web", "80", "-W", "a:1"]]) {
      assert.equal((await home.run(args)).status, 2, args.join(" "));
    }
  });
});

describe("ports of a terminal session", () => {
  const tell = (frame: object) => {
    for (const watcher of daemon.portWatchers) watcher.send(JSON.stringify(frame));
  };
  const opened = (port: number) => ({ type: "port_opened", port, address: "::", pid: 3 });
  /** Begins with no watcher of another test. */
  const watched = () => until("the watch", () => [...daemon.portWatchers].some(({ readyState, OPEN }) => readyState === OPEN));
  const reachable = (local: number) => new RegExp(`\r\n[^\r]*hob: port ${local} of web is at http://127.0.0.1:${local}`);

  async function freePort(): Promise<number> {
    const free = createServer().listen(0, "127.0.0.1");
    await once(free, "listening");
    const { port } = free.address() as AddressInfo;
    free.close();
    await once(free, "close");
    return port;
  }

  async function isOpen(local: number): Promise<boolean> {
    const socket = connect(local, "127.0.0.1");
    const connected = await once(socket, "connect").then(
      () => true,
      () => false,
    );
    socket.destroy();
    return connected;
  }

  beforeEach(() => {
    for (const watcher of daemon.portWatchers) watcher.terminate();
    daemon.portWatchers.clear();
  });

  test("are reachable at the same local port while they are open, and said on a line of their own", async () => {
    using terminal = new TestTerminal([HOB, "console", "web"], home.env);
    terminal.type("echo re''ady\r");
    await terminal.waitFor(/ready\r\n/);
    await watched();
    const [free, before] = [await freePort(), await freePort()];
    tell({ type: "port_list", ports: [opened(before)] });
    tell(opened(port()));
    await terminal.waitFor(new RegExp(`hob: port ${port()} of web is open, but the local port is taken: 'hob proxy web LOCAL:${port()}'`));
    tell(opened(free));
    await terminal.waitFor(reachable(free));
    assert.equal(await isOpen(before), false, "what was open before the session is none of its ports");
    tell({ ...opened(free), type: "port_closed" });
    await until("the port is closed", async () => !(await isOpen(free)));
    terminal.type("exit 3\r");
    assert.equal(await terminal.exited, 3);
  });

  test("a person who comes back finds those that are open, and new ones; a flag leaves them", async () => {
    const [here, later] = [await freePort(), await freePort()];
    const id = daemon.broken.addTerminal();
    using terminal = new TestTerminal([HOB, "attach", "web", id], home.env);
    await terminal.waitFor(/output so far\r\n/);
    await watched();
    tell({ type: "port_list", ports: [opened(here)] });
    await terminal.waitFor(reachable(here));
    tell(opened(later));
    await terminal.waitFor(reachable(later));
    terminal.type("q");
    assert.equal(await terminal.exited, 3);
    assert.equal(await isOpen(here), false);
    daemon.portWatchers.clear();
    using other = new TestTerminal([HOB, "attach", "web", id, "--no-port-forward"], home.env);
    await other.waitFor(/output so far\r\n/);
    other.type("q");
    assert.equal(await other.exited, 3);
    assert.equal(daemon.portWatchers.size, 0);
  });

  test("when the watch breaks it is begun again, and what has changed meanwhile is seen", async () => {
    const [gone, kept, fresh] = [await freePort(), await freePort(), await freePort()];
    using terminal = new TestTerminal([HOB, "console", "web"], home.env);
    await watched();
    tell({ type: "port_list", ports: [] });
    for (const port of [gone, kept]) tell(opened(port));
    await terminal.waitFor(reachable(kept));
    const [first] = daemon.portWatchers;
    first?.terminate();
    daemon.portWatchers.clear();
    await watched();
    tell({ type: "port_list", ports: [opened(kept), opened(fresh)] });
    await terminal.waitFor(reachable(fresh));
    await until("the port is closed", async () => !(await isOpen(gone)));
    assert.equal(await isOpen(kept), true);
    terminal.type("exit 0\r");
    await terminal.exited;
  });
});

describe("hob url", () => {
  test("shows it, and changes who may see it", async () => {
    const url = daemon.sprites.get("web")?.url;
    assert.equal((await home.run(["url", "web"])).stdout.toString(), `${url}\n`);
    assert.deepEqual(JSON.parse((await home.run(["url", "web", "--json"])).stdout.toString()), { url, auth: "sprite" });
    const { stdout, stderr } = await home.run(["url", "update", "web", "--auth", "public"]);
    assert.match(stdout.toString(), /is open to everybody/, stderr);
    assert.equal((await home.run(["url", "update", "web", "--auth", "nobody"])).status, 2);
    assert.equal((await home.run(["url", "update", "web"])).status, 2);
    const completed = (await home.run(["__complete", "--", "url", ""])).stdout.toString();
    assert.match(completed, /^web\b/m);
    assert.match(completed, /^update\b/m);
  });
});
