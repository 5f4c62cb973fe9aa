import type { Identity, SpriteStatus } from "@hob/protocol";

/** Size of a sprite's microVM: virtual CPUs, memory in MiB, volume in GB; within MACHINE_LIMITS. */
export interface MachineSpec {
  cpus: number;
  ramMb: number;
  storageGb: number;
}

/** Where a pilot listens, and the bearer token it accepts. The token is a secret between host and microVM. */
export interface PilotEndpoint {
  host: string;
  port: number;
  token: string;
}

/**
 * The seam between what the daemon promises to clients and how microVMs are made and kept. The registry owns which
 * sprites exist; a runtime owns their VMs and files, and keeps nothing that a sprite's id and identity cannot find again.
 *
 * Every method is bounded in time by its implementation and may be called for several sprites at once; for one id
 * the implementation orders the calls itself. Failures are HobErrors (`vm_failed`, `timeout`, `no_space`, …).
 */
export interface SpriteRuntime {
  /** Makes the sprite's VM (fork of a template) and resolves when its pilot has accepted `resumed`. On failure nothing is left. */
  create(identity: Identity, machine: MachineSpec): Promise<void>;
  /** Where this sprite's pilot listens; starts or wakes the VM first when it does not run. Bounded (30 s). */
  endpoint(identity: Identity, machine: MachineSpec): Promise<PilotEndpoint>;
  /** What is known now, without asking the VM; `cold` for an id without a VM. */
  status(id: string): SpriteStatus;
  /** Ends the VM and removes all its files. Idempotent. */
  destroy(id: string): Promise<void>;
  /** After a start: adopts VMs that still run, cleans up what belongs to no id in `known`. */
  recover(known: readonly { identity: Identity; machine: MachineSpec }[]): Promise<void>;
  /** Saves or stops every VM; bounded. */
  stopAll(): Promise<void>;
  /** Calls the listener after each change of a sprite's status; listeners stay for the life of the runtime. */
  onStatusChange(listener: (id: string, status: SpriteStatus) => void): void;
}
