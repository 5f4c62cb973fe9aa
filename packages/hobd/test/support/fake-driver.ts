import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HobError } from "@hob/protocol";
import type { Vm, VmConfig, VmmDriver } from "../../src/vmm/driver.ts";

/** A VM without a machine: its files, and a folder of sockets as QEMU leaves it. */
export class FakeVm implements Vm {
  readonly pid = 1;
  readonly pilotPort: number;
  isStalled = false;
  readonly #directory: string;
  readonly #exit = Promise.withResolvers<void>();
  readonly exited = this.#exit.promise;
  killed = 0;

  constructor({ directory }: VmConfig, pilotPort: number) {
    this.#directory = directory;
    this.pilotPort = pilotPort;
  }

  async pause(): Promise<void> {}
  async resume(): Promise<void> {}
  /** called while it is saved */
  onSave: () => Promise<void> = async () => {};
  async save(stateFile: string): Promise<void> {
    await this.onSave();
    await writeFile(stateFile, "devices");
  }

  async kill(): Promise<void> {
    this.killed++;
    this.#exit.resolve();
    await rm(join(this.#directory, "vm.json"), { force: true });
  }

  /** The VMM ends: its record and sockets stay. */
  crash(): void {
    this.#exit.resolve();
  }
}

export class FakeDriver implements VmmDriver {
  readonly vms: FakeVm[] = [];
  /** how VMs were started */
  readonly calls: ("boot" | "restore")[] = [];
  /** what runs already when a daemon starts */
  adoptable: FakeVm | undefined;
  failing = false;
  readonly #port: () => number;

  constructor(port: () => number) {
    this.#port = port;
  }

  async fingerprint(): Promise<string> {
    return "fake";
  }

  async boot(config: VmConfig): Promise<Vm> {
    this.calls.push("boot");
    await writeFile(config.consoleLog, "pilot listens\n", { flag: "a" });
    return this.#start(config);
  }

  async restore(config: VmConfig): Promise<Vm> {
    this.calls.push("restore");
    return this.#start(config);
  }

  async adopt(): Promise<Vm | undefined> {
    return this.adoptable;
  }

  async #start(config: VmConfig): Promise<Vm> {
    await writeFile(join(config.directory, "vm.json"), String(this.vms.length));
    await writeFile(config.ramFile, "memory", { flag: "a" });
    if (this.failing) throw new HobError("missing_tool", "as the test asked");
    const vm = new FakeVm(config, this.#port());
    this.vms.push(vm);
    return vm;
  }
}
