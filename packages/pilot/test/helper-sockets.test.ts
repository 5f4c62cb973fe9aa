import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import type { Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import type { HelperProcess, Listener } from "../src/helper/index.ts";
import { formatAddress, parseAddress } from "../src/helper/ip-address.ts";
import { containerUnavailable, startContainer, type TestContainer } from "./support/container.ts";
import { type RunningHelper, startHelper, waitFor } from "./support/helper.ts";

describe("addresses", () => {
  test("every address survives the way to text and back", () => {
    const bytes = fc.oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }));
    fc.assert(
      fc.property(bytes, (address) => {
        assert.deepEqual([...(parseAddress(formatAddress(address)) ?? [])], [...address]);
      }),
    );
  });

  test("spellings of one address are one; what is none is refused", () => {
    assert.equal(formatAddress(parseAddress("0:0::1") ?? assert.fail()), "::1");
    assert.equal(formatAddress(parseAddress("::ffff:10.0.0.1") ?? assert.fail()), "::ffff:a00:1");
    assert.equal(formatAddress(parseAddress("fdf::1") ?? assert.fail()), "fdf::1");
    for (const text of ["", "localhost", "10.0.0", "1::2::3", "fe80::1%eth0"]) assert.equal(parseAddress(text), undefined, text);
  });
});

/** Accepts on an address and does what its third argument says with each connection, one after the other. */
const SERVER = `
import socket, sys, hashlib
host, port, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
server = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if host == "::": server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.bind((host, port)); server.listen(16)
while True:
    peer, _ = server.accept()
    if mode == "hash":
        digest, size = hashlib.sha256(), 0
        while data := peer.recv(65536): digest.update(data); size += len(data)
        peer.sendall(f"{size} {digest.hexdigest()}".encode())
    elif mode == "hold":
        peer.recv(1); held = peer; continue
    elif mode == "reset":
        peer.recv(1); peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
    elif mode == "greet":
        peer.sendall(b"hello from " + peer.getsockname()[0].encode())
        peer.shutdown(socket.SHUT_WR)
        print("got", peer.recv(100), peer.recv(1), flush=True)
    elif mode == "flood":
        try:
            while True: peer.sendall(b"x" * 65536)
        except OSError: print("cut", flush=True)
    peer.close()
`;

describe("sockets in a container", { skip: containerUnavailable() ?? false }, () => {
  let helper: RunningHelper;
  let container: TestContainer;
  const servers: HelperProcess[] = [];
  before(async () => {
    helper = await startHelper();
    container = await startContainer();
  });
  after(async () => {
    for (const server of servers) server.close();
    await container[Symbol.asyncDispose]();
    const reports = helper.stderr();
    await helper[Symbol.asyncDispose]();
    assert.equal(reports, "", "no sanitizer report");
  });

  async function serve(host: string, port: number, mode: string): Promise<{ process: HelperProcess; output: () => string }> {
    let output = "";
    const process = await helper.client.exec({
      argv: ["python3", "-c", SERVER, host, String(port), mode],
      env: { PATH: "/usr/bin:/bin" },
      cwd: "/",
      uid: 1000,
      gid: 1000,
      target: container.target,
    });
    servers.push(process);
    process.start({
      stdout: (chunk) => {
        output += chunk;
      },
      stderr: (chunk) => {
        output += chunk;
      },
    });
    await waitFor(async () => (await listOnce()).some((listener) => listener.port === port), `a server on port ${port}; ${output}`);
    return { process, output: () => output };
  }

  async function listOnce(): Promise<Listener[]> {
    const first = Promise.withResolvers<Listener[]>();
    using watch = await helper.client.watchListeners(container.target.initPid, 50, first.resolve);
    watch.ended.then(() => first.reject(new Error("the watch ended")));
    return await first.promise;
  }

  const connect = async (port: number, ...addresses: string[]): Promise<Socket> =>
    (
      await helper.client.connectInside(
        container.target.initPid,
        addresses.map((address) => ({ address, port })),
      )
    ).socket;

  test("a watch tells what listens now, and what opens and closes", async () => {
    const lists: Listener[][] = [];
    using watch = await helper.client.watchListeners(container.target.initPid, 20, (list) => lists.push(list));
    await waitFor(() => lists.length === 1, "the first list");
    assert.deepEqual(lists[0], []);
    const v4 = await serve("127.0.0.1", 4001, "hold");
    const v6 = await serve("::", 4002, "hold");
    await waitFor(() => lists.at(-1)?.length === 2, "two listeners");
    const [one, two] = (lists.at(-1) ?? []).toSorted((a, b) => a.port - b.port);
    assert.deepEqual([one?.address, one?.port, two?.address, two?.port], ["127.0.0.1", 4001, "::", 4002]);
    // Ids of the container are small, those of this machine's root namespace need not be.
    for (const pid of [one?.pid, two?.pid]) assert.ok(pid !== undefined && pid > 1 && pid < 1000, `process ${pid}`);
    v4.process.signal(9);
    await waitFor(() => lists.at(-1)?.length === 1, "one listener");
    v6.process.signal(9);
    await waitFor(() => lists.at(-1)?.length === 0, "no listener");
    assert.equal(await Promise.race([watch.ended.then(() => "ended"), "runs"]), "runs");
  });

  test("a service on the loopback is reached, bytes and the end of each direction pass unchanged", async () => {
    await serve("127.0.0.1", 4010, "hash");
    const bytes = randomBytes(5_000_000);
    const socket = await connect(4010, "127.0.0.1");
    socket.end(bytes);
    const answer = Buffer.concat(await socket.toArray()).toString();
    assert.equal(answer, `${bytes.length} ${createHash("sha256").update(bytes).digest("hex")}`);
  });

  test("the peer ends first: what the client still sends arrives", async () => {
    const { output } = await serve("::1", 4011, "greet");
    const socket = await connect(4011, "127.0.0.1", "::1");
    assert.equal(Buffer.concat(await socket.toArray()).toString(), "hello from ::1");
    socket.end("late");
    await waitFor(() => output().includes("got b'late' b''"), "the late bytes");
  });

  test("a client that closes leaves nothing behind and what it sent is delivered", async () => {
    const { output } = await serve("127.0.0.1", 4012, "greet");
    const socket = await connect(4012, "127.0.0.1");
    await new Promise((resolve) => socket.write("last words", resolve));
    socket.destroy();
    await waitFor(() => output().includes("got b'last words' b''"), "the last words");
    const flooded = await serve("127.0.0.1", 4013, "flood");
    const reader = await connect(4013, "127.0.0.1");
    await once(reader.resume(), "data");
    reader.destroy();
    await waitFor(() => flooded.output().includes("cut"), "the writer's end");
  });

  test("a reader that stops stops the writer, and nothing is lost", async () => {
    const socket = await connect(4013, "127.0.0.1");
    socket.read(0);
    await waitFor(() => socket.readableLength > 0, "some bytes");
    const before = socket.bytesRead;
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.ok(socket.bytesRead - before < 1_000_000, "bounded buffers");
    socket.destroy();
  });

  test("refused, impossible, gone", async () => {
    const errno = async (...args: Parameters<typeof connect>) => {
      try {
        (await connect(...args)).destroy();
        return 0;
      } catch (error) {
        return (error as { details: { errno: number } }).details.errno;
      }
    };
    assert.equal(await errno(4999, "127.0.0.1", "::1"), 111, "ECONNREFUSED");
    assert.equal(await errno(80, "192.0.2.1"), 101, "ENETUNREACH: the container's network, not the machine's");
    await assert.rejects(helper.client.connectInside(container.target.initPid, []), { code: "helper_failed" });
    await assert.rejects(helper.client.connectInside(2 ** 22 + 1, [{ address: "127.0.0.1", port: 1 }]), { code: "helper_failed" });
    await serve("127.0.0.1", 4014, "reset");
    const socket = await connect(4014, "127.0.0.1");
    socket.write("x");
    socket.on("error", () => {}).resume();
    // A unix socket cannot be reset: its end comes first, and what is written then fails.
    await once(socket, "end");
    socket.write("y");
    await waitFor(() => socket.closed, "the failed write");
  });

  test("the end of the container ends watches and connections", async () => {
    await serve("127.0.0.1", 4020, "hold");
    const lists: Listener[][] = [];
    const watch = await helper.client.watchListeners(container.target.initPid, 20, (list) => lists.push(list));
    const socket = await connect(4020, "127.0.0.1");
    socket.on("error", () => {}).resume();
    const ended = once(socket, "end");
    container.stop();
    await watch.ended;
    await ended;
    socket.destroy();
  });
});
