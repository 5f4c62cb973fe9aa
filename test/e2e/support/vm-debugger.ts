import assert from "node:assert/strict";
import { once } from "node:events";
import { globSync, readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { QmpClient } from "@hob/hobd/vmm/qemu/qmp.ts";
import type { TestDaemon } from "./test-daemon.ts";

/** Numbers of registers in QEMU's description of the processor, gdb-xml/i386-64bit.xml */
const RIP = 0x10;
const CS = 0x12;
/**
 * Code of the node program, which is linked to fixed addresses from 4 MB on and is tens of megabytes large. No other
 * program of a VM without programs of the user's has code there: they are small, or loaded elsewhere.
 */
const NODE_CODE = { from: 0x800_000n, to: 0x3_200_000n } as const;
const ATTEMPTS = 4_000;

/**
 * Looks into the VM of a sprite from below, as the machine's owner can: QEMU's stub for gdb, which is opened through the
 * monitor while no daemon runs that would have the monitor. Nothing in the VM, and nothing in Hob, helps.
 */
export class VmDebugger {
  readonly #path: string;
  readonly #console: string;

  private constructor(path: string, consoleLog: string) {
    this.#path = path;
    this.#console = consoleLog;
  }

  /** Kills the daemon, opens the stub of its only VM, and starts the daemon anew, which takes the VM over. */
  static async open(daemon: TestDaemon): Promise<VmDebugger> {
    await daemon.kill9();
    const [record = assert.fail("no VM runs"), ...others] = globSync(join(daemon.runtimeDirectory, "*/vm.json"));
    assert.deepEqual(others, [], "one VM");
    const path = join(dirname(record), "gdb.sock");
    const qmp = await QmpClient.connect(join(dirname(record), "qmp.sock"), 10_000);
    const answer = await qmp.execute("human-monitor-command", { "command-line": `gdbserver unix:${path},server=on,wait=off` });
    qmp.close();
    assert.match(String(answer), /^(Waiting for gdb connection.*)?$/s);
    await daemon.restart();
    const [consoleLog = assert.fail()] = globSync(join(daemon.home, "sprites/*/console.log"));
    return new VmDebugger(path, consoleLog);
  }

  /**
   * Ends the pilot as a fault of its own would, at whatever point of its work it is met: by sending it where there is
   * no code. Resolves when PID 1 has seen its end.
   */
  async crashPilot(): Promise<void> {
    const before = this.#crashes();
    const gdb = await GdbConnection.open(this.#path);
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        for (const thread of await gdb.threads()) {
          await gdb.ask(`Hg${thread}`);
          const [at, segment] = [await gdb.register(RIP), await gdb.register(CS)];
          if ((segment & 3n) !== 3n || at < NODE_CODE.from || at >= NODE_CODE.to) continue;
          await gdb.setRegister(RIP, 0n);
          await gdb.resume();
          return await this.#ended(before);
        }
        await gdb.resume();
        await sleep(5);
        await gdb.interrupt();
      }
      assert.fail("the pilot was never met at work");
    } finally {
      await gdb.close();
    }
  }

  async #ended(before: number): Promise<void> {
    for (const deadline = Date.now() + 30_000; this.#crashes() === before; await sleep(50)) {
      assert.ok(Date.now() < deadline, "PID 1 did not see the pilot's end");
    }
  }

  #crashes(): number {
    return readFileSync(this.#console, "utf8").match(/hob-init: the pilot was killed by signal 11/g)?.length ?? 0;
  }
}

/** As much of the GDB remote serial protocol as is needed here. Opening it stops the VM. */
class GdbConnection {
  readonly #socket: Socket;
  #received = "";
  #isStopped = true;
  #arrived = Promise.withResolvers<void>();

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => {
      this.#received += text;
      this.#arrived.resolve();
    });
    socket.on("error", () => {});
    socket.once("close", () => this.#arrived.resolve());
  }

  static async open(path: string): Promise<GdbConnection> {
    const socket = connect(path);
    await once(socket, "connect");
    const gdb = new GdbConnection(socket);
    gdb.#send("?");
    await gdb.#packet();
    // Single registers are given to those only who know what each is.
    await gdb.ask("qXfer:features:read:target.xml:0,fff");
    return gdb;
  }

  /** Sends a command. @returns the answer's content */
  async ask(command: string): Promise<string> {
    this.#send(command);
    for (;;) {
      const answer = await this.#packet();
      // A VM that runs when the connection is made stops, which is said beside the answer to what was asked first.
      if (!/^[TS][0-9a-f]{2}/.test(answer)) return answer;
    }
  }

  async threads(): Promise<string[]> {
    const found: string[] = [];
    for (let answer = await this.ask("qfThreadInfo"); answer.startsWith("m"); answer = await this.ask("qsThreadInfo")) {
      found.push(...answer.slice(1).split(","));
    }
    return found;
  }

  /** Its lowest bytes come first. */
  async register(number: number): Promise<bigint> {
    const hex = await this.ask(`p${number.toString(16)}`);
    assert.match(hex, /^([0-9a-f]{2})+$/, `register ${number}`);
    return BigInt(`0x${Buffer.from(hex, "hex").reverse().toString("hex")}`);
  }

  async setRegister(number: number, value: bigint): Promise<void> {
    const hex = Buffer.from(value.toString(16).padStart(16, "0"), "hex").reverse().toString("hex");
    assert.equal(await this.ask(`P${number.toString(16)}=${hex}`), "OK");
  }

  /** Lets the VM go on; it answers when it stops. */
  async resume(): Promise<void> {
    this.#send("c");
    await this.#acknowledged();
    this.#isStopped = false;
  }

  /** Stops the VM. */
  async interrupt(): Promise<void> {
    this.#socket.write("\x03");
    await this.#packet();
    this.#isStopped = true;
  }

  /** The VM goes on, whatever has failed. */
  async close(): Promise<void> {
    if (this.#isStopped) await this.resume().catch(() => {});
    this.#socket.destroy();
  }

  #send(command: string): void {
    const sum = Buffer.from(command, "latin1").reduce((total, byte) => (total + byte) & 0xff, 0);
    this.#socket.write(`$${command}#${sum.toString(16).padStart(2, "0")}`);
  }

  async #acknowledged(): Promise<void> {
    const plus = await this.#next(/^\+/);
    assert.equal(plus[0], "+");
  }

  /** Whether acknowledged before or not: what is asked for has an answer. */
  async #packet(): Promise<string> {
    const [, content = ""] = await this.#next(/^\+?\$([^#]*)#[0-9a-f]{2}/);
    this.#socket.write("+");
    return content;
  }

  async #next(pattern: RegExp): Promise<RegExpExecArray> {
    const deadline = Date.now() + 20_000;
    for (;;) {
      const match = pattern.exec(this.#received);
      if (match !== null) {
        this.#received = this.#received.slice(match[0].length);
        return match;
      }
      assert.ok(Date.now() < deadline && !this.#socket.destroyed, `the stub says ${JSON.stringify(this.#received)}`);
      await Promise.race([this.#arrived.promise, sleep(1_000, undefined, { ref: false })]);
      this.#arrived = Promise.withResolvers();
    }
  }
}
