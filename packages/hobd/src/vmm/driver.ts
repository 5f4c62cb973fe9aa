/**
 * The VMM seam: everything the host does to a microVM. QEMU implements it; Firecracker is meant to be the next.
 *
 * | call | the VM is then |
 * | --- | --- |
 * | boot | running, from its kernel |
 * | restore | paused, with the memory and devices of a save |
 * | resume, pause | running, paused |
 * | save | gone; its devices are in a file, its memory in the RAM file it had |
 * | kill | gone |
 */
export interface VmmDriver {
  /** Hash of everything that makes a saved VM restorable only by an equal VMM: program, version, host CPU. */
  fingerprint(): Promise<string>;
  boot(config: VmConfig): Promise<Vm>;
  restore(config: VmConfig, stateFile: string): Promise<Vm>;
  /** A VM of an earlier process of ours that still runs in this folder, or undefined. */
  adopt(directory: string): Promise<Vm | undefined>;
}

export interface VmConfig {
  /** runtime folder of this VM on a tmpfs: sockets, pid files; short, because socket paths end at 107 bytes (unix(7)) */
  directory: string;
  /** serial console output is appended here */
  consoleLog: string;
  machine: { cpus: number; ramMb: number };
  kernel: string;
  initramfs: string;
  /** disks in order: vda, vdb, … */
  disks: readonly Disk[];
  /** the RAM file; created sparse when it is missing */
  ramFile: string;
  /** TCP port on the host's 127.0.0.1 that leads to the pilot */
  pilotPort: number;
  /** nothing leads out of the VM: of its network there is only the way from that port to the pilot */
  isolated: boolean;
  /** who the VMM and its network run as; undefined = as the daemon */
  credentials: Credentials | undefined;
}

export interface Credentials {
  uid: number;
  gid: number;
}

export interface Disk {
  path: string;
  readOnly: boolean;
  /** belongs to this VM alone, so that its VMM's user may own it; images are everybody's */
  owned: boolean;
}

export interface Vm {
  readonly pid: number;
  readonly pilotPort: number;
  /** It stands still because the host's disk is full, and goes on by itself when there is room. */
  readonly isStalled: boolean;
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Pauses, writes the device state and ends the VMM; the RAM file then holds the memory. */
  save(stateFile: string): Promise<void>;
  /** Ends the VMM and its helpers at once; resolves when they are gone. Idempotent. */
  kill(): Promise<void>;
  /** resolves when the VMM is gone, for whatever reason */
  readonly exited: Promise<void>;
}
