import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { createConnection, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { CommandRunner } from "@hob/linux";
import type { Vm } from "../../src/vmm/driver.ts";
import { QemuDriver } from "../../src/vmm/qemu/driver.ts";
import { identify, writeJson } from "../../src/vmm/qemu/processes.ts";
import { temporaryHome, until } from "../support/test-daemon.ts";

const BOUND_MS = 10_000;

/** The part of QEMU that saves: it answers on qmp.sock, and writes its state where it is told to. */
let vmm: {
  commands: string[];
  /** of query-status */
  status: string;
  /** of query-migrate */
  migration: string;
  /** its connection to where the state goes */
  state: Socket | undefined;
  onMigrate: (state: Socket) => void;
};
let cleanUp: AsyncDisposableStack;
let folder: string;
let stateFile: string;

beforeEach(async () => {
  cleanUp = new AsyncDisposableStack();
  const home = cleanUp.use(await temporaryHome());
  folder = home.path;
  stateFile = join(folder, "devices.state");
  vmm = { commands: [], status: "running", migration: "active", state: undefined, onMigrate: () => {} };
  const server = createServer((socket) => serve(socket));
  await new Promise<void>((resolve) => server.listen(join(folder, "qmp.sock"), resolve));
  cleanUp.defer(() => void server.close());
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  const exited = once(child, "exit");
  cleanUp.defer(async () => {
    child.kill("SIGKILL");
    await exited;
  });
  await writeJson(join(folder, "vm.json"), { vmm: await identify(child.pid ?? 0), network: undefined, pilotPort: 1 });
});
afterEach(() => cleanUp.disposeAsync());

/** @param migrationMs bound of a save */
async function adopt(migrationMs: number): Promise<Vm> {
  const host = { accelerator: "tcg", tscKhz: 0, tcgThreads: "single", network: "passt" } as const;
  const driver = new QemuDriver({ host, runner: {} as CommandRunner, migrationMs });
  const vm = (await driver.adopt(folder)) ?? assert.fail("not adopted");
  cleanUp.defer(() => vm.kill());
  return vm;
}

function serve(socket: Socket): void {
  const send = (message: object) => socket.write(`${JSON.stringify(message)}\r\n`);
  socket.on("error", () => {});
  send({ QMP: {} });
  let rest = "";
  socket.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const { execute, arguments: args } = JSON.parse(line) as { execute: string; arguments: { uri?: string } };
      if (!execute.startsWith("query")) vmm.commands.push(execute);
      if (execute === "migrate") startMigration(args.uri?.replace("unix:", "") ?? "");
      if (execute === "migrate_cancel") vmm.migration = "cancelled";
      if (execute === "cont") vmm.status = "running";
      send({ return: answerTo(execute) });
    }
  });
}

function startMigration(path: string): void {
  vmm.state = createConnection(path).on("error", () => {});
  vmm.onMigrate(vmm.state);
}

const answerTo = (command: string): object => {
  if (command === "query-status") return { status: vmm.status };
  return command === "query-migrate" ? { status: vmm.migration } : {};
};

describe("a VM of an earlier daemon", () => {
  test("that waits for room on the disk is taken over, and goes on", async () => {
    vmm.status = "io-error";
    const vm = await adopt(BOUND_MS);
    assert.ok(vm.isStalled);
    await until("it goes on", () => !vm.isStalled, BOUND_MS);
    assert.deepEqual(vmm.commands.slice(-1), ["cont"]);
  });

  for (const status of ["paused", "internal-error", "postmigrate"]) {
    test(`that is ${status} is ended`, async () => {
      vmm.status = status;
      await assert.rejects(adopt(BOUND_MS), /not adopted/);
      assert.ok(!existsSync(join(folder, "vm.json")));
    });
  }
});

describe("a save", () => {
  test("writes what the VMM sends, and ends it", async () => {
    vmm.onMigrate = (state) => {
      state.end("devices");
      vmm.migration = "completed";
    };
    const vm = await adopt(BOUND_MS);
    await vm.save(stateFile);
    assert.equal(await readFile(stateFile, "utf8"), "devices");
    assert.deepEqual(vmm.commands.slice(-4), ["stop", "migrate-set-capabilities", "migrate", "quit"]);
    await vm.exited;
  });

  const failures: Record<string, (state: Socket) => void> = {
    "is not complete in time": (state) => void state.write("devi"),
    "says that it is complete, and does not end": (state) => {
      state.write("devi");
      vmm.migration = "completed";
    },
    "has failed": (state) => {
      state.end();
      vmm.migration = "failed";
    },
  };
  for (const [what, onMigrate] of Object.entries(failures)) {
    test(`that ${what} is given up before the VM may go on, and nothing of it is left`, async () => {
      vmm.onMigrate = onMigrate;
      const vm = await adopt(30);
      await assert.rejects(vm.save(stateFile));
      assert.deepEqual(vmm.commands.slice(-2), ["migrate", "migrate_cancel"]);
      await until("the connection has ended", () => vmm.state?.closed === true);
      assert.deepEqual((await readdir(folder)).sort(), ["qmp.sock", "vm.json"]);
      await vm.resume();
      assert.equal(vmm.commands.at(-1), "cont");
      vmm.onMigrate = (state) => {
        state.end("devices");
        vmm.migration = "completed";
      };
      await (await adopt(BOUND_MS)).save(stateFile);
      assert.ok(existsSync(stateFile), "the next one is not disturbed");
    });
  }
});
