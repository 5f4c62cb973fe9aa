import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";
import { HobClient } from "../src/client.ts";
import { frame, startRawServer, upgraded } from "./support/raw-server.ts";

const LIMIT = { timeout: 20_000 };
const CONNECTED = frame(1, '{"status":"connected","target":"127.0.0.1:25"}');
async function all(items: AsyncIterable<unknown>): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const item of items) found.push(item);
  return found;
}

/** RFC 6455 section 5.2: RSV bits without an extension. */
const INVALID = Buffer.of(0xf2, 1, 0);

describe("a proxied connection", () => {
  test("loses nothing of what comes in one segment with the answer", LIMIT, async () => {
    const end = [frame(1, '{"type":"eof"}'), frame(8, Buffer.of(3, 232))];
    await using server = await startRawServer((head) => upgraded(head, CONNECTED, frame(2, "220 hello\r\n"), frame(2, "more"), ...end));
    const stream = await new HobClient({ url: server.url }).openProxy("box", { port: 25 });
    const text = (await stream.end().toArray()).join("");
    assert.equal(text, "220 hello\r\nmore");
  });

  test("that breaks as it is opened is an error of its own, and ends nothing else", LIMIT, async () => {
    await using server = await startRawServer((head) => upgraded(head, CONNECTED, INVALID));
    const stream = await new HobClient({ url: server.url }).openProxy("box", { port: 25 });
    if (!stream.closed) await once(stream, "close");
    assert.ok(stream.errored);
  });

  test("with an answer that is none is refused", LIMIT, async () => {
    for (const first of ["null", "5", "{", '{"status":"maybe"}']) {
      await using server = await startRawServer((head) => upgraded(head, frame(1, first), INVALID));
      await assert.rejects(new HobClient({ url: server.url }).openProxy("box", { port: 25 }), { code: "bad_answer" }, first);
    }
  });
});

test("a watch of ports passes over frames that are no objects", LIMIT, async () => {
  const opened = frame(1, '{"type":"port_opened","port":80,"address":"::","pid":1}');
  await using server = await startRawServer((head) => upgraded(head, frame(1, "null"), frame(1, "7"), opened, frame(8, Buffer.of(3, 232))));
  const seen: number[] = [];
  const watch = await new HobClient({ url: server.url }).watchPorts("box", { opened: ({ port }) => seen.push(port) });
  await watch.ended;
  assert.deepEqual(seen, [80]);
});

describe("a stream of lines", () => {
  const streams = {
    async logs(client: HobClient) {
      return (await client.services("box")).logs("web");
    },
    kill: async (client: HobClient) => client.killSession("box", "1"),
    network: async (client: HobClient) => client.policies("box").networkLog(),
    diff: async (client: HobClient) => (await client.checkpoints("box")).diff("v1"),
  };

  for (const [name, open] of Object.entries(streams)) {
    test(`${name}: a line that is no object is a bad answer`, LIMIT, async () => {
      for (const line of ["null", "1", '"x"', "[]", "{"]) {
        await using server = await startRawServer(() => `HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n${line}\n`);
        await assert.rejects(async () => void (await all(await open(new HobClient({ url: server.url })))), { code: "bad_answer" }, line);
      }
    });
  }
});

test("a server that changes the protocol unasked keeps nobody waiting", LIMIT, async () => {
  await using server = await startRawServer(() => "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
  const client = new HobClient({ url: server.url });
  const calls = [
    () => client.get("box"),
    async () => all((await client.services("box")).logs("web")),
    () => all(client.killSession("box", "1")),
    () => all(client.policies("box").networkLog()),
    async () => (await client.checkpoints("box")).content("v1", "/a"),
  ];
  for (const call of calls) await assert.rejects(call, { code: "connection_lost" });
});
