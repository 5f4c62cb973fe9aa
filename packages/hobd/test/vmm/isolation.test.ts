import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { findFreePort } from "../../src/runtime/ports.ts";
import type { VmConfig } from "../../src/vmm/driver.ts";
import { GUEST_NETWORK, type QemuFiles, type QemuHost, qemuArguments, usesPasst } from "../../src/vmm/qemu/arguments.ts";
import { PROGRAM } from "../../src/vmm/qemu/driver.ts";
import { until } from "../support/test-daemon.ts";

const HOST: QemuHost = { accelerator: "tcg", tscKhz: 0, tcgThreads: "single", network: "passt" };
const FILES: QemuFiles = { kernel: "", initramfs: "", ram: "", console: "", disks: [] };
const CONFIG: VmConfig = {
  ...{ directory: "/run/x", consoleLog: "", machine: { cpus: 1, ramMb: 256 }, kernel: "", initramfs: "", disks: [], ramFile: "" },
  ...{ pilotPort: 1, isolated: true, credentials: undefined },
};

/** The network of an isolated VM, as QEMU is told it. */
function isolatedNetwork(pilotPort: number): string {
  const args = qemuArguments({ ...CONFIG, pilotPort }, FILES, HOST);
  return args[args.indexOf("-netdev") + 1] ?? assert.fail("no network");
}

const bytesOf = (address: string): number[] => address.split(".").map(Number);
const GUEST_MAC = GUEST_NETWORK.mac.split(":").map((byte) => Number.parseInt(byte, 16));
const BROADCAST = [255, 255, 255, 255, 255, 255];

/** RFC 1071, of an even number of bytes. */
function checksum(data: Buffer): number {
  let sum = 0;
  for (let at = 0; at < data.length; at += 2) sum += data.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** An Ethernet frame with an IPv4 packet of the guest's. */
function packet(to: string, protocol: 6 | 17, payload: Buffer, checksumAt: number): Buffer {
  const ends = Buffer.from([...bytesOf(GUEST_NETWORK.address), ...bytesOf(to)]);
  const pseudo = Buffer.concat([ends, Buffer.from([0, protocol, payload.length >> 8, payload.length & 0xff]), payload]);
  payload.writeUInt16BE(checksum(pseudo), checksumAt);
  const ip = Buffer.alloc(20);
  ip.set([0x45, 0, 0, 20 + payload.length, 0, 1, 0, 0, 64, protocol]);
  ip.set(ends, 12);
  ip.writeUInt16BE(checksum(ip), 10);
  return Buffer.concat([Buffer.from([...BROADCAST, ...GUEST_MAC, 8, 0]), ip, payload]);
}

function syn(to: string, port: number): Buffer {
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(50_000, 0);
  tcp.writeUInt16BE(port, 2);
  tcp.set([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff], 4);
  return packet(to, 6, tcp, 16);
}

function datagram(to: string, port: number, text: string): Buffer {
  const udp = Buffer.concat([Buffer.alloc(8), Buffer.from(text)]);
  udp.writeUInt16BE(50_000, 0);
  udp.writeUInt16BE(port, 2);
  udp.writeUInt16BE(udp.length, 4);
  return packet(to, 17, udp, 6);
}

/** An answer to who has the guest's address: whoever forwards a connection asks that first. RFC 826 */
function hereIsGuest(): Buffer {
  const arp = Buffer.from([0, 1, 8, 0, 6, 4, 0, 2, ...GUEST_MAC, ...bytesOf(GUEST_NETWORK.address), ...BROADCAST, 10, 9, 0, 1]);
  return Buffer.concat([Buffer.from([...BROADCAST, ...GUEST_MAC, 8, 6]), arp]);
}

/** QEMU without a machine: the network of a VM, and a socket in the place of its network card. */
class Wire implements AsyncDisposable {
  readonly received: Buffer[] = [];
  readonly #cleanUp: AsyncDisposableStack;
  readonly #socket: Socket;
  #rest = Buffer.alloc(0);

  private constructor(socket: Socket, cleanUp: AsyncDisposableStack) {
    this.#socket = socket;
    this.#cleanUp = cleanUp;
    socket.on("data", (data) => this.#take(data));
  }

  static async open(network: string): Promise<Wire> {
    await using undo = new AsyncDisposableStack();
    const folder = undo.adopt(mkdtempSync(join(tmpdir(), "hob-wire-")), (path) => rmSync(path, { recursive: true, force: true }));
    const path = join(folder, "wire.sock");
    const card = createServer();
    undo.defer(() => void card.close());
    card.listen(path);
    await once(card, "listening");
    const wire = `stream,id=card,server=off,addr.type=unix,addr.path=${path}`;
    const ports = ["net0", "card"].flatMap((name) => ["-netdev", `hubport,id=${name}-port,hubid=0,netdev=${name}`]);
    const args = ["-M", "none", "-nodefaults", "-display", "none", "-netdev", network, "-netdev", wire, ...ports];
    const qemu = undo.adopt(spawn(PROGRAM, args, { stdio: "ignore" }), end);
    const [socket] = (await Promise.race([once(card, "connection"), once(qemu, "exit").then(() => assert.fail("QEMU ended"))])) as [Socket];
    undo.defer(() => void socket.destroy());
    return new Wire(socket, undo.move());
  }

  send(frame: Buffer): void {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(frame.length);
    this.#socket.write(Buffer.concat([length, frame]));
  }

  /** A connection of the host's to the VM's port has come through all of it: what was sent before has been dealt with. */
  async forwards(port: number): Promise<void> {
    const client = connect(port, "127.0.0.1");
    client.on("error", () => {});
    try {
      const isForPilot = (frame: Buffer) => frame.readUInt16BE(12) === 0x0800 && frame.readUInt16BE(36) === GUEST_NETWORK.pilotPort;
      await until("the connection arrives at the VM", () => {
        this.send(hereIsGuest());
        return this.received.some(isForPilot);
      });
    } finally {
      client.destroy();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#cleanUp.disposeAsync();
  }

  /** Frames with their length before them, "-netdev stream" in qemu(1). */
  #take(data: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, data]);
    for (;;) {
      const length = this.#rest.length < 4 ? 0 : this.#rest.readUInt32BE(0);
      if (length === 0 || this.#rest.length < 4 + length) return;
      this.received.push(this.#rest.subarray(4, 4 + length));
      this.#rest = this.#rest.subarray(4 + length);
    }
  }
}

async function end(qemu: ChildProcess): Promise<void> {
  if (qemu.exitCode !== null || qemu.signalCode !== null) return;
  const ended = once(qemu, "exit");
  qemu.kill("SIGKILL");
  await ended;
}

const isInstalled = spawnSync(PROGRAM, ["--version"], { stdio: "ignore" }).status === 0;

describe("an isolated VM", { skip: isInstalled ? false : `${PROGRAM} is not installed` }, () => {
  interface Attempt extends AsyncDisposable {
    wire: Wire;
    port: number;
    /** what has arrived at the host */
    arrived: string[];
  }

  /** A guest that sends to servers on the host. */
  async function attempt(network: (port: number) => string): Promise<Attempt> {
    await using undo = new AsyncDisposableStack();
    const arrived: string[] = [];
    const listener = createServer((socket) => {
      arrived.push("a connection");
      socket.destroy();
    });
    undo.defer(() => void listener.close());
    listener.listen(0, "127.0.0.1");
    await once(listener, "listening");
    const receiver = createSocket("udp4", (data) => arrived.push(data.toString()));
    undo.defer(() => void receiver.close());
    receiver.bind(0, "127.0.0.1");
    await once(receiver, "listening");
    const port = await findFreePort();
    const wire = undo.use(await Wire.open(network(port)));
    // QEMU's own network leads the gateway's address to the host's loopback.
    wire.send(syn(GUEST_NETWORK.gateway, (listener.address() as AddressInfo).port));
    wire.send(datagram(GUEST_NETWORK.gateway, receiver.address().port, "datagram"));
    const owned = undo.move();
    return { wire, port, arrived, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  }

  test("reaches nothing, and is reached at its pilot's port", async () => {
    await using isolated = await attempt(isolatedNetwork);
    await isolated.wire.forwards(isolated.port);
    assert.deepEqual(isolated.arrived, []);
  });

  test("is so by that option alone: without it, the same packets arrive", async () => {
    await using open = await attempt((port) => isolatedNetwork(port).replace("restrict=on,", ""));
    await until("the host is reached", () => open.arrived.length === 2);
    assert.deepEqual(open.arrived.sort(), ["a connection", "datagram"]);
    await open.wire.forwards(open.port);
  });
});

test("an isolated VM has no passt beside it, all others have", () => {
  assert.ok(!usesPasst(CONFIG, HOST));
  assert.ok(usesPasst({ isolated: false }, HOST));
});
