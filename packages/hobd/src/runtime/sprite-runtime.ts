import type { Checkpoint, Identity, PilotActivity, SpriteStatus, StorageStatus, StoredHistory } from "@hob/protocol";

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

/** Where a sprite's own pilot listens. */
export interface SpriteEndpoint extends PilotEndpoint {
  /** names the boot that the VM's memory comes from: a save and its restore keep it, and so does all that is on a tmpfs in it */
  bootId: string;
}

/** Under which conditions a sprite may be put to sleep. */
export interface SleepTerms {
  /** nothing must have happened inside for this long, milliseconds */
  idleMs: number;
  /** sleep whatever holds it */
  force: boolean;
  /** how long it may take to bring into the object store what that lacks, milliseconds; the sprite answers requests meanwhile */
  settleMs: number;
  /** asked again at the last moment: whether somebody outside uses it */
  inUse(): boolean;
}

/** What came of it: `asleep` also when it slept already; `awake` with what its pilot said, if that was the reason. */
export type SleepOutcome = { kind: "asleep" } | { kind: "awake"; activity: PilotActivity | undefined };

/** What this machine knows of a sprite without a VM. */
export interface Rest {
  /** whether its volume is here */
  hasCopy: boolean;
  /** under which ownership that was written; undefined when it is not known */
  epoch: number | undefined;
  /** `writeId` of the head in the object store that has all of that volume, and all checkpoints; undefined: there may be more here */
  storedAs: string | undefined;
  /** what its pilot said when nothing changed any more, at that time (Unix milliseconds): all checkpoints, the live state first, then the newest */
  said: { readonly at: number; readonly checkpoints: readonly Checkpoint[]; readonly storage: StorageStatus } | undefined;
  /** what the object store is known to lack: `since` when (Unix milliseconds), how many checkpoints, and why */
  behind: StorageGap | undefined;
}

export interface StorageGap {
  readonly since: number;
  readonly checkpoints: number;
  readonly error: string | null;
}

/** A VM that shows what the object store has of a sprite, beside the sprite's own, which stays as it is. */
export interface Reader {
  /** its pilot answers what `docs/api/history.md` reads; nothing else is to be asked of it */
  readonly endpoint: PilotEndpoint;
  /** resolves when the VM is gone, for whatever reason */
  readonly exited: Promise<void>;
  /** Ends it and removes all its files. Idempotent. */
  close(): Promise<void>;
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
  /**
   * Where this sprite's pilot listens; starts or wakes the VM first when it does not run. Bounded (30 s).
   * @param bootId only the VM with the memory of this boot will do: another one is neither started nor named, `vm_failed`
   * @throws HobError `ownership_lost` for a while after another host was found to have taken the sprite over
   */
  endpoint(identity: Identity, machine: MachineSpec, bootId?: string): Promise<SpriteEndpoint>;
  /**
   * Tells a running sprite its policies and resolves when they are in force; one that sleeps is told when it wakes, and
   * never takes older ones from then on, whatever a call under way brings.
   */
  applyPolicies(identity: Identity): Promise<void>;
  /** What is known now, without asking the VM; `cold` for an id without a VM. */
  status(id: string): SpriteStatus;
  /**
   * Saves a running sprite's memory, unless somebody uses it or its pilot objects. What was changed is kept before, in a
   * checkpoint and in the object store: for that the sprite is not held up, nor does it depend on the store. Calls of `endpoint` that come
   * meanwhile wait, and wake it again. A save that fails leaves the sprite running.
   */
  sleep(identity: Identity, terms: SleepTerms): Promise<SleepOutcome>;
  /** What keeps a running sprite awake from inside; undefined when it does not run. Does not wake it. */
  activity(identity: Identity): Promise<PilotActivity | undefined>;
  /** Of a sprite that does not run. */
  rest(id: string): Promise<Rest>;
  /** Forks a reader from the template of the sprite's size. On failure nothing is left. What a killed daemon left, `recover` removes. */
  startReader(identity: Identity, machine: MachineSpec, history: StoredHistory): Promise<Reader>;
  /** Drops the memory of a sprite that sleeps: warm becomes cold. False when it is not warm. */
  chill(id: string): Promise<boolean>;
  /** Shuts the VM down in good order, bounded, and boots it from its disk. */
  restart(identity: Identity, machine: MachineSpec): Promise<void>;
  /** Moves the sprite to the present images, restarting it if it runs; false when there is nothing to do. */
  upgrade(identity: Identity, machine: MachineSpec): Promise<boolean>;
  /** Ends the VM and removes all its files. Idempotent. */
  destroy(id: string): Promise<void>;
  /**
   * After a start: adopts VMs that still run, cleans up what belongs to no id in `known`; `keepsUnknown`: there may be more sprites than these,
   * so only VMs are ended, and files stay.
   */
  recover(known: readonly { identity: Identity; machine: MachineSpec }[], how?: { keepsUnknown?: boolean }): Promise<void>;
  /** Saves or stops every VM; bounded. */
  stopAll(): Promise<void>;
  /** Calls the listener after each change of a sprite's status; listeners stay for the life of the runtime. */
  onStatusChange(listener: (id: string, status: SpriteStatus) => void): void;
}
