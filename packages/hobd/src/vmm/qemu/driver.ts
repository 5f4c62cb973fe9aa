import type { ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { access, chmod, chown, open, readFile, rename, rm } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { type CommandRunner, lastLines } from "@hob/linux";
import { HobError } from "@hob/protocol";
import type { Vm, VmConfig, VmmDriver } from "../driver.ts";
import { GUEST_NETWORK, machineDescription, type QemuHost, qemuArguments, usesPasst } from "./arguments.ts";
import { endIfBroken } from "./broken-vm.ts";
import { FullDisk, STOPPED_BY_DISK } from "./full-disk.ts";
import {
  findProcesses,
  type InheritedFile,
  identify,
  isRunning,
  killAndWait,
  type ProcessIdentity,
  readJson,
  startDetached,
  waitForExit,
  writeJson,
} from "./processes.ts";
import { QmpClient } from "./qmp.ts";
import { cancelMigration, receiveState, sendState, waitForMigration, waitForStatus } from "./state-stream.ts";

/** The VMM of this machine. */
export const PROGRAM = process.arch === "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64";
const START_TIMEOUT_MS = 10_000;
const MIGRATION_MS = 20_000;
const CANCEL_MS = 5_000;
/** RAM stays in its file: neither saved nor loaded, qapi/migration.json */
const SHARED_RAM = { capabilities: [{ capability: "x-ignore-shared", state: true }] };

export interface QemuDriverOptions {
  host: QemuHost;
  runner: CommandRunner;
  /** milliseconds for the state of a VM to be written */
  migrationMs?: number;
}

/** What is written beside the sockets, so that a later daemon finds this VM again. */
interface VmRecord {
  vmm: ProcessIdentity;
  network: ProcessIdentity | undefined;
  pilotPort: number;
}

export class QemuDriver implements VmmDriver {
  readonly #options: QemuDriverOptions;

  constructor(options: QemuDriverOptions) {
    this.#options = options;
  }

  async fingerprint(): Promise<string> {
    const { stdout } = await this.#options.runner.run({ argv: [PROGRAM, "--version"], timeoutMs: 10_000 });
    const machine = machineDescription(this.#options.host);
    return createHash("sha256")
      .update(JSON.stringify([stdout, machine, cpus()[0]?.model, process.arch, GUEST_NETWORK]))
      .digest("hex");
  }

  async boot(config: VmConfig): Promise<Vm> {
    return (await this.#start(config, [])).vm;
  }

  async restore(config: VmConfig, stateFile: string): Promise<Vm> {
    const { vm, qmp } = await this.#start(config, ["-incoming", "defer"]);
    try {
      await qmp.execute("migrate-set-capabilities", SHARED_RAM);
      const socket = join(config.directory, "incoming.sock");
      await qmp.execute("migrate-incoming", { uri: `unix:${socket}` });
      await sendState(stateFile, socket, MIGRATION_MS);
      await waitForStatus(qmp, (status) => status !== "inmigrate", MIGRATION_MS);
      await rm(socket, { force: true });
      return vm;
    } catch (error) {
      await vm.kill();
      throw await describeFailure("restore the microVM", config, error);
    }
  }

  async adopt(directory: string): Promise<Vm | undefined> {
    const record = await readJson<VmRecord>(join(directory, "vm.json"));
    if (record === undefined) {
      // A daemon that was killed between the start of a VM and the writing of its record has left it nameless.
      if (await exists(directory)) for (const stray of await findProcesses([PROGRAM, "passt"], `${directory}/`)) await killAndWait(stray);
      return undefined;
    }
    const vm = this.#vmOf(directory, record);
    if (await isRunning(record.vmm)) {
      const status = await vm.status().catch(() => "gone");
      if (status === STOPPED_BY_DISK) vm.noteStalled();
      if (status === "running" || status === STOPPED_BY_DISK) return vm;
    }
    await vm.kill();
    return undefined;
  }

  #vmOf(directory: string, record: VmRecord, child?: ChildProcess): QemuVm {
    return new QemuVm(directory, record, child, this.#options.migrationMs ?? MIGRATION_MS);
  }

  async #start(config: VmConfig, extra: string[]): Promise<{ vm: QemuVm; qmp: QmpClient }> {
    const { host } = this.#options;
    await prepareFiles(config);
    let network: ProcessIdentity | undefined;
    let vm: QemuVm | undefined;
    try {
      if (usesPasst(config, host)) network = await this.#startPasst(config);
      const inherited = inheritedFiles(config);
      const paths = inherited.map((_, index) => `/proc/self/fd/${index + 3}`);
      const [kernel = "", initramfs = "", ram = "", console = "", ...disks] = paths;
      const args = qemuArguments(config, { kernel, initramfs, ram, console, disks }, host);
      const child = await startDetached([PROGRAM, ...args, ...extra], {
        logFile: logOf(config),
        files: inherited,
        credentials: config.credentials,
      });
      const vmm = await identify(child.pid ?? 0);
      if (vmm === undefined) throw new HobError("vm_failed", "start the VMM: it ended at once");
      const record: VmRecord = { vmm, network, pilotPort: config.pilotPort };
      vm = this.#vmOf(config.directory, record, child);
      await writeJson(join(config.directory, "vm.json"), record);
      const qmp = await Promise.race([QmpClient.connect(join(config.directory, "qmp.sock"), START_TIMEOUT_MS), failOnExit(vm)]);
      vm.use(qmp);
      return { vm, qmp };
    } catch (error) {
      if (vm !== undefined) await vm.kill();
      else if (network !== undefined) await killAndWait(network);
      throw await describeFailure("start the microVM", config, error);
    }
  }

  /**
   * passt(1) carries the VM's network: no root, no TAP device. `--no-map-gw` keeps it from leading the guest's gateway
   * address to the host's loopback. It ends by itself when QEMU closes the socket (`--one-off`).
   */
  async #startPasst(config: VmConfig): Promise<ProcessIdentity> {
    const socket = join(config.directory, "passt.sock");
    const runAs = config.credentials ?? (process.getuid?.() === 0 ? { uid: 0, gid: 0 } : undefined);
    const { address, prefixLength, gateway, dns, pilotPort } = GUEST_NETWORK;
    const child = await startDetached(
      [
        ...(["passt", "--foreground", "--one-off", "--quiet", "--socket", socket, "--ipv4-only", "--no-map-gw"] as [string, ...string[]]),
        ...["--address", address, "--netmask", String(prefixLength), "--gateway", gateway, "--dns-forward", dns, "--no-dhcp"],
        ...["--tcp-ports", `127.0.0.1/${config.pilotPort}:${pilotPort}`, "--udp-ports", "none"],
        ...(runAs === undefined ? [] : ["--runas", `${runAs.uid}:${runAs.gid}`]),
      ],
      { logFile: join(config.directory, "passt.log"), files: [], credentials: undefined },
    );
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!(await exists(socket))) {
      if (child.exitCode !== null || performance.now() > deadline)
        throw new HobError("vm_failed", `start passt: it made no socket (exit status ${child.exitCode})`);
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
    const identity = await identify(child.pid ?? 0);
    if (identity === undefined) throw new HobError("vm_failed", "start passt: it ended at once");
    return identity;
  }
}

class QemuVm implements Vm {
  readonly pid: number;
  readonly pilotPort: number;
  readonly exited: Promise<void>;
  readonly #directory: string;
  readonly #record: VmRecord;
  readonly #migrationMs: number;
  readonly #fullDisk = new FullDisk({ status: () => this.status(), resume: () => this.resume() });
  /** one connection, because QEMU serves one at a time */
  qmp: QmpClient | undefined;

  constructor(directory: string, record: VmRecord, child: ChildProcess | undefined, migrationMs: number) {
    this.#directory = directory;
    this.#migrationMs = migrationMs;
    this.#record = record;
    this.pid = record.vmm.pid;
    this.pilotPort = record.pilotPort;
    this.exited = waitForExit(record.vmm, child).then(() => this.qmp?.close());
  }

  get isStalled(): boolean {
    return this.#fullDisk.isStalled;
  }

  /** It was found to wait for space. */
  noteStalled(): void {
    this.#fullDisk.noteStalled();
  }

  async status(): Promise<string> {
    return ((await (await this.#connection()).execute("query-status")) as { status: string }).status;
  }

  async pause(): Promise<void> {
    await (await this.#connection()).execute("stop");
  }

  async resume(): Promise<void> {
    await (await this.#connection()).execute("cont");
  }

  async save(stateFile: string): Promise<void> {
    const temporary = `${stateFile}.tmp`;
    try {
      await this.#fullDisk.standingStill(() => this.#write(temporary));
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    await rename(temporary, stateFile);
  }

  /** Writes the device state and ends the VMM. On failure the VM stands still, and nothing goes on in it. */
  async #write(file: string): Promise<void> {
    const qmp = await this.#connection();
    await qmp.execute("stop");
    await qmp.execute("migrate-set-capabilities", SHARED_RAM);
    try {
      await using receiver = await receiveState(join(this.#directory, "outgoing.sock"), file);
      await qmp.execute("migrate", { uri: `unix:${receiver.path}` });
      await waitForMigration(qmp, this.#migrationMs);
      await receiver.received(this.#migrationMs);
    } catch (error) {
      await cancelMigration(qmp, CANCEL_MS).catch(() => {});
      throw error;
    }
    await qmp.execute("quit").catch(() => {});
    await this.kill();
  }

  async kill(): Promise<void> {
    this.qmp?.close();
    await killAndWait(this.#record.vmm);
    if (this.#record.network !== undefined) await killAndWait(this.#record.network);
    await rm(join(this.#directory, "vm.json"), { force: true });
  }

  async #connection(): Promise<QmpClient> {
    if (this.qmp === undefined) this.use(await QmpClient.connect(join(this.#directory, "qmp.sock"), 2_000));
    return this.qmp as QmpClient;
  }

  use(qmp: QmpClient): void {
    this.qmp = qmp;
    qmp.onEvent = (name) => {
      if (name === "BLOCK_IO_ERROR") this.#fullDisk.noteError();
      if (name === "STOP") void endIfBroken(this).catch(() => {});
    };
  }
}

const logOf = (config: VmConfig): string => join(config.directory, "vmm.log");

const inheritedFiles = (config: VmConfig): InheritedFile[] => [
  { path: config.kernel, flags: "r" },
  { path: config.initramfs, flags: "r" },
  { path: config.ramFile, flags: "r+" },
  { path: config.consoleLog, flags: "a" },
  ...config.disks.map(({ path, readOnly }) => ({ path, flags: readOnly ? "r" : "r+" })),
];

/** QEMU reopens inherited files through /proc/self/fd: that needs permission on the file itself, not on its folder. */
async function prepareFiles(config: VmConfig): Promise<void> {
  const file = await open(config.ramFile, "a", 0o600);
  await file.truncate(config.machine.ramMb * 1024 * 1024);
  await file.close();
  const console = await open(config.consoleLog, "a", 0o600);
  await console.close();
  const owned = [config.ramFile, ...config.disks.filter((disk) => disk.owned).map((disk) => disk.path)];
  for (const path of owned) await chmod(path, 0o600);
  if (config.credentials === undefined) return;
  const { uid, gid } = config.credentials;
  for (const path of [config.consoleLog, config.directory, ...owned]) await chown(path, uid, gid);
  await chmod(config.directory, 0o700);
}

async function failOnExit(vm: Vm): Promise<never> {
  await vm.exited;
  throw new HobError("vm_failed", "the VMM ended at once");
}

/** Adds the VMM's last words, which say why far better than an exit status. */
async function describeFailure(what: string, config: VmConfig, error: unknown): Promise<HobError> {
  if (error instanceof HobError && error.code === "missing_tool") return error;
  const log = lastLines(await readFile(logOf(config), "utf8").catch(() => ""), 3);
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof HobError ? error.code : "vm_failed";
  return new HobError(code, `${what}: ${message}${log === "" ? "" : ` (${log})`}`, {
    cause: error,
    hint: "'hob doctor' checks the machine",
  });
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
