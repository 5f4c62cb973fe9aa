import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { LIMITS } from "@hob/protocol";
import { WebSocket } from "ws";
import { JOURNAL_LIMITS } from "../src/exec/journal/index.ts";
import { containerUnavailable } from "./support/container.ts";
import { useContainer } from "./support/container-suite.ts";
import { startExecServer } from "./support/exec-server.ts";
import { waitFor } from "./support/helper.ts";

interface Attached {
  socket: WebSocket;
  /** first frame */
  info(): Record<string, unknown>;
  out(): string;
  bytes(): number;
  exit(): number | undefined;
  closed: Promise<number>;
}

/** Several clients, clients that leave and come back, and the end of sessions; on the wire. */
describe("sessions", { skip: containerUnavailable() ?? false, timeout: 120_000 }, () => {
  const journals = mkdtempSync(join(tmpdir(), "hob-journals-"));
  const suite = useContainer((helper, container) =>
    startExecServer(helper, container, {
      journals,
      limits: { ...JOURNAL_LIMITS, segmentBytes: 256 * 1024, diskBytes: 2 * 1024 * 1024 },
    }),
  );
  after(() => rmSync(journals, { recursive: true, force: true }));

  const connect = (target: string, at = suite.server): Attached => {
    const socket = new WebSocket(`${at.webSocketURL}/${target}`);
    const texts: Record<string, unknown>[] = [];
    const chunks: Buffer[] = [];
    let exit: number | undefined;
    let bytes = 0;
    socket.on("error", () => {});
    socket.on("message", (data: Buffer, isBinary) => {
      if (!isBinary) return void texts.push(JSON.parse(String(data)));
      const isTty = texts[0]?.tty === true;
      if (!isTty && data[0] === 3) exit = data[1];
      else {
        chunks.push(isTty ? data : data.subarray(1));
        bytes += isTty ? data.length : data.length - 1;
      }
    });
    return {
      socket,
      info: () => texts[0] ?? {},
      out: () => Buffer.concat(chunks).toString("latin1"),
      bytes: () => bytes,
      exit: () => exit ?? (texts.find(({ type }) => type === "exit")?.exit_code as number | undefined),
      closed: once(socket, "close").then(([code]) => code as number),
    };
  };
  const begin = async (query: string): Promise<Attached & { id: string }> => {
    const attached = connect(`exec?${query}`);
    await waitFor(() => attached.info().session_id !== undefined, "session_info");
    return { ...attached, id: String(attached.info().session_id) };
  };
  const script = (text: string, more = "") => `cmd=sh&cmd=-c&cmd=${encodeURIComponent(text)}${more}`;
  const leave = async ({ socket, closed }: Attached) => {
    socket.terminate();
    await closed;
  };
  const list = async () =>
    (await (await fetch(`${suite.server.baseURL}/v1/sprites/test/exec`)).json()) as { count: number; sessions: object[] };
  const kill = (id: string, query = "", init: RequestInit = {}) =>
    fetch(`${suite.server.baseURL}/v1/sprites/test/exec/${id}/kill${query}`, { method: "POST", ...init });
  const events = async (answer: Response) => {
    assert.equal(answer.headers.get("content-type"), "application/x-ndjson");
    return (await answer.text())
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
  };
  const end = async (id: string) => void (await (await kill(id, "?signal=KILL")).text());

  test("a client that comes back by offset loses nothing and gets nothing twice, wherever it broke off", async () => {
    const text = 'i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); done; read _; echo end; exit 5';
    const expected = `${Array.from({ length: 3000 }, (_, i) => `line ${i}\n`).join("")}end\n`;
    const first = await begin(script(text, "&stdin=true&max_run_after_disconnect=60s"));
    let received = "";
    let current: Attached = first;
    for (let round = 0; round < 20; round++) {
      const wanted = Math.min(received.length + 1_700, expected.length - 4);
      await waitFor(() => received.length + current.bytes() >= wanted, "output");
      await leave(current);
      received += current.out();
      current = connect(`exec/${first.id}?stdin=true&output_offset=${received.length}`);
      await waitFor(() => current.info().type !== undefined, "session_info");
      assert.equal(current.info().output_offset, received.length);
    }
    current.socket.send(Buffer.from("\0\n"));
    assert.equal(await current.closed, 1000);
    assert.equal(current.exit(), 5);
    assert.equal(received + current.out(), expected);
  });

  test("a terminal lives on; scrollback comes after session_info, then what is live", async () => {
    const first = await begin("cmd=bash&cmd=--norc&tty=true&cols=100&rows=30&stdin=true");
    first.socket.send(Buffer.from("echo one-$((1+1))\n"));
    await waitFor(() => first.out().includes("one-2\r\n"), "output");
    await leave(first);
    await waitFor(async () => (await list()).sessions.some((one) => "is_active" in one && one.is_active === false), "a detached session");
    const second = connect(`exec/${first.id}`);
    await waitFor(() => second.out().includes("one-2\r\n"), "scrollback");
    assert.deepEqual(
      ["type", "session_id", "tty", "cols", "rows", "is_owner", "output_offset", "input_offset"].map((name) => second.info()[name]),
      ["session_info", first.id, true, 100, 30, true, 0, 18],
    );
    second.socket.send(Buffer.from("echo two-$((1+1)); exit 9\n"));
    assert.equal(await second.closed, 4009);
    assert.match(second.out(), /two-2\r\n/);
  });

  test("several clients: each gets all output, input comes from all, the first is the owner", async () => {
    const first = await begin(script('while read line; do echo "got $line"; done; echo end', "&stdin=true"));
    const second = connect(`exec/${first.id}?stdin=true`);
    const third = connect(`exec/${first.id}?stdin=false`);
    await waitFor(() => second.info().type !== undefined && third.info().type !== undefined, "both");
    assert.deepEqual([first.info().is_owner, second.info().is_owner], [true, false]);
    first.socket.send(Buffer.from("\0a\n"));
    await waitFor(() => second.out().includes("got a"), "first line");
    second.socket.send(Buffer.from("\0b\n"));
    third.socket.send(Buffer.from("\0ignored\n"));
    third.socket.send(Buffer.from([4]));
    await waitFor(() => first.out().includes("got b"), "second line");
    second.socket.send(Buffer.from([4]));
    assert.deepEqual(await Promise.all([first.closed, second.closed, third.closed]), [1000, 1000, 1000]);
    for (const one of [first, second, third]) assert.deepEqual([one.out(), one.exit()], ["got a\ngot b\nend\n", 0]);
  });

  test("a slow client does not hold up the others, and gets everything from the journal", async () => {
    const size = 1_500_000;
    const slow = await begin(script(`read _; head -c ${size} /dev/zero | tr '\\0' x; read _`, "&stdin=true"));
    const quick = connect(`exec/${slow.id}?stdin=true`);
    await waitFor(() => quick.info().type !== undefined, "the second");
    slow.socket.pause();
    quick.socket.send(Buffer.from("\0\n"));
    await waitFor(() => quick.bytes() === size, "all of it");
    quick.socket.send(Buffer.from("\0\n"));
    await quick.closed;
    slow.socket.resume();
    await slow.closed;
    assert.equal(slow.bytes(), size);
    assert.equal(slow.exit(), 0);
  });

  test("output that nobody reads stays within its bound; who comes late is told where it begins", async () => {
    const size = 6_000_000;
    const first = await begin(script(`read _; head -c ${size} /dev/zero; echo full; sleep 60`, "&stdin=true&detachable=true"));
    first.socket.send(Buffer.from("\0\n"));
    await waitFor(() => first.bytes() > 0, "its begin");
    await leave(first);
    const [session] = suite.server.endpoint.sessions.list();
    await waitFor(() => session?.output.journal.end === size + 5, "all output");
    const late = connect(`exec/${first.id}?output_offset=10`);
    await waitFor(() => late.out().endsWith("full\n"), "the rest");
    const { output_offset: from, first_output_offset: kept } = late.info();
    assert.equal(from, kept);
    assert.ok(Number(from) > 10 && size - Number(from) > 1_000_000, String(from));
    assert.equal(late.bytes(), size + 5 - Number(from));
    assert.ok((session?.output.journal.diskBytes ?? 0) < 3 * 1024 * 1024);
    await end(first.id);
    await late.closed;
  });

  test("a terminal's scrollback is the last of it", async () => {
    const first = await begin(script("stty raw -echo; head -c 1000000 /dev/zero; sleep 60", "&tty=true"));
    await waitFor(() => first.bytes() === 1_000_000, "output");
    const second = connect(`exec/${first.id}`);
    await waitFor(() => second.bytes() > 0, "scrollback");
    assert.equal(second.info().output_offset, 1_000_000 - LIMITS.scrollbackBytes);
    await end(first.id);
    await second.closed;
    assert.equal(second.bytes(), LIMITS.scrollbackBytes);
  });

  test("after the end, output and status can be had for a while; 410 for a kill, 404 for an unknown id", async () => {
    const first = await begin(script("echo out; echo err >&2; exit 42"));
    await first.closed;
    const late = connect(`exec/${first.id}`);
    assert.equal(await late.closed, 1000);
    assert.deepEqual([late.out(), late.exit(), late.info().session_id], ["out\nerr\n", 42, first.id]);
    const legacy = connect(`exec?id=${first.id}&output_offset=4`);
    await legacy.closed;
    assert.equal(legacy.out(), "err\n");
    const gone = await kill(first.id);
    assert.deepEqual([gone.status, ((await gone.json()) as { error: string }).error], [410, "gone"]);
    assert.equal((await kill("999999")).status, 404);
    assert.deepEqual(await refused("exec/999999"), [404, "session not found: 999999"]);
    assert.deepEqual(await refused("exec/a%20b"), [404, "session not found"]);
    assert.equal((await refused(`exec/${first.id}?output_offset=100`))[0], 400);
    assert.equal((await refused(`exec/${first.id}?output_offset=-1`))[0], 400);
  });

  test("list", async () => {
    assert.deepEqual(await list(), { count: 0, sessions: [] });
    const one = await begin(script("echo hello; sleep 60", "&dir=/tmp"));
    await waitFor(() => one.bytes() === 6, "output");
    const { count, sessions } = await list();
    assert.equal(count, 1);
    const [item] = sessions as { created: string; last_activity: string; bytes_per_second: number }[];
    const { created, last_activity, bytes_per_second, ...rest } = item ?? assert.fail();
    assert.deepEqual(rest, { id: one.id, command: "sh -c echo hello; sleep 60", workdir: "/tmp", tty: false, is_active: true });
    assert.ok(Date.parse(created) <= Date.parse(last_activity) && bytes_per_second > 0);
    const head = await fetch(`${suite.server.baseURL}/v1/sprites/test/exec`, { method: "HEAD" });
    assert.equal(head.status, 200);
    await end(one.id);
    await one.closed;
  });

  describe("kill", () => {
    test("a process that goes: signal, exited, complete", async () => {
      const one = await begin(script("exec sleep 60"));
      const [signal, ...rest] = await events(await kill(one.id));
      assert.deepEqual([signal.type, signal.signal], ["signal", "SIGTERM"]);
      assert.equal(signal.message, `Signaling SIGTERM to process group ${signal.pid}`);
      assert.deepEqual(rest, [
        { type: "exited", message: "Process exited" },
        { type: "complete", exit_code: 143 },
      ]);
      await one.closed;
      assert.equal(one.exit(), 143);
    });

    test("one that does not: SIGKILL after the timeout; from a JSON body as well", async () => {
      const one = await begin(script("trap '' TERM INT; echo ready; while :; do sleep 0.1; done"));
      await waitFor(() => one.bytes() > 0, "the trap");
      const body = JSON.stringify({ signal: "int", timeout: 0.2 });
      const [signal, ...rest] = await events(await kill(one.id, "", { body }));
      assert.equal(signal.signal, "SIGINT");
      assert.deepEqual(rest, [
        { type: "timeout", message: "Timeout after 0.2s, sending SIGKILL" },
        { type: "killed", message: "Process killed" },
        { type: "complete", exit_code: 137 },
      ]);
      await one.closed;
    });

    test("a body without a length is not read without an end", async () => {
      const body = new ReadableStream({ pull: (controller) => controller.enqueue(Buffer.alloc(64 * 1024, " ")) });
      const status = await kill("1", "", { body, duplex: "half" } as RequestInit).then(
        (answer) => answer.status,
        () => 413,
      );
      assert.equal(status, 413);
    });

    test("timeout=0s only delivers the signal", async () => {
      const one = await begin(script("trap 'echo caught' USR1; echo ready; while :; do sleep 0.05; done"));
      await waitFor(() => one.bytes() > 0, "the trap");
      const told = await events(await kill(one.id, "?signal=USR1&timeout=0s"));
      assert.deepEqual(
        told.map(({ type }) => type),
        ["signal", "complete"],
      );
      await waitFor(() => one.out().includes("caught"), "the signal");
      await end(one.id);
      await one.closed;
    });

    test("a shell on a terminal that ignores SIGTERM goes with its foreground job", async () => {
      const one = await begin("cmd=bash&cmd=--norc&tty=true&stdin=true");
      // What is typed is echoed by the terminal, also before the shell has come to ignore the signal: only the shell can say 42.
      one.socket.send(Buffer.from("echo $((6 * 7)); sleep 61; echo not-reached\n"));
      await waitFor(() => one.out().includes("42\r\n"), "the job");
      const told = await events(await kill(one.id, "?timeout=300ms"));
      assert.deepEqual(told.at(-1), { type: "complete", exit_code: 137 });
      assert.equal(await one.closed, 4137);
    });

    test("escalates although the one who asked has gone", async () => {
      const one = await begin(script("trap '' TERM; echo ready; while :; do sleep 0.1; done"));
      await waitFor(() => one.bytes() > 0, "the trap");
      const aborter = new AbortController();
      const answer = await kill(one.id, "?timeout=300ms", { signal: aborter.signal });
      await answer.body?.getReader().read();
      aborter.abort();
      await one.closed;
      assert.equal(one.exit(), 137);
    });

    test("a client that takes nothing does not hold up the end", async () => {
      const one = await begin(script("exec cat /dev/zero"));
      const [session] = suite.server.endpoint.sessions.list();
      one.socket.pause();
      await waitFor(() => session?.output.isFull === true, "a full journal", 30_000);
      const told = await events(await kill(one.id, "?signal=TERM&timeout=1500ms"));
      assert.ok(told.at(-1).exit_code > 128, JSON.stringify(told));
      one.socket.terminate();
    });

    test("bad requests: 400", async () => {
      const one = await begin(script("sleep 60"));
      for (const query of ["?signal=NOPE", "?signal=99", "?timeout=soon", "?timeout=2h"]) {
        assert.equal((await kill(one.id, query)).status, 400, query);
      }
      for (const body of ["{", "[]", '{"signal":{}}', '{"timeout":-1}']) assert.equal((await kill(one.id, "", { body })).status, 400, body);
      await end(one.id);
      await one.closed;
    });
  });

  test("without a client: the grace time, from the last one who leaves; then SIGHUP", async () => {
    const first = await begin(script("trap 'echo hung up; exit 3' HUP; while :; do sleep 0.05; done", "&max_run_after_disconnect=300ms"));
    await leave(first);
    const second = connect(`exec/${first.id}`);
    await waitFor(() => second.info().type !== undefined, "back in time");
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.equal(second.socket.readyState, WebSocket.OPEN);
    await leave(second);
    await waitFor(() => suite.server.endpoint.sessions.size === 0, "its end");
    const late = connect(`exec/${first.id}`);
    await late.closed;
    assert.equal(late.exit(), 3);
    // The shell itself may say that its child was hung up.
    assert.match(late.out(), /^hob: no client came back within 0.3 s, hanging up\n(Hangup\n)?hung up\n/);
  });

  test("an attachment may change how long the session lives on, and the size of its terminal", async () => {
    const first = await begin(script("trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done", "&tty=true&cols=80&rows=24"));
    await waitFor(() => first.out().includes("ready"), "the trap");
    const second = connect(`exec/${first.id}?cols=80&rows=24`);
    await waitFor(() => second.out().includes("24 80"), "a new drawing for the same size");
    await leave(second);
    const third = connect(`exec/${first.id}?cols=90&rows=30&max_run_after_disconnect=10ms`);
    await waitFor(() => third.out().includes("30 90"), "the new size");
    await leave(first);
    await leave(third);
    await waitFor(() => suite.server.endpoint.sessions.size === 0, "its end");
  });

  test("what a killed pilot left can still be read; its ids are not used again", async () => {
    const one = await begin(script("echo before; exec sleep 60"));
    await waitFor(() => readdirSync(journals).includes(one.id), "the journal on disk");
    const next = await startExecServer(suite.helper.client, suite.container, { journals });
    try {
      const late = connect(`exec/${one.id}`, next);
      await late.closed;
      assert.equal(late.exit(), 255);
      assert.match(late.out(), /^before\nhob: the sprite's platform was restarted/);
      const other = connect("exec?cmd=true", next);
      await other.closed;
      assert.ok(Number(other.info().session_id) > Number(one.id));
    } finally {
      await next[Symbol.asyncDispose]();
    }
    await end(one.id);
    await one.closed;
  });

  test("neither arguments nor variables, of any route, are logged", async () => {
    const one = await begin(script("echo s3cret; exec sleep 60", "&env=A=s3cret-value"));
    await refused(`exec/${one.id}?output_offset=s3cret`);
    await refused("exec/s3cret");
    await (await kill(one.id, "?signal=s3cret")).text();
    await (await kill("s3cret", "?signal=TERM")).text();
    await end(one.id);
    await one.closed;
    assert.doesNotMatch(suite.server.log(), /s3cret/);
  });

  function refused(target: string): Promise<[number, string]> {
    return new Promise((resolve, reject) => {
      const headers = {
        Connection: "Upgrade",
        Upgrade: "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
      };
      const sent = request(`${suite.server.baseURL}/v1/sprites/test/${target}`, { headers });
      sent.on("response", async (response) => {
        const body = (await response.toArray()).join("");
        resolve([response.statusCode ?? 0, (JSON.parse(body) as { message: string }).message]);
      });
      sent.on("upgrade", () => reject(new Error("upgraded")));
      sent.on("error", reject);
      sent.end();
    });
  }
});
