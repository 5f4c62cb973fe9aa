import type { CommandRunner } from "@hob/linux";

export type Level = "ok" | "warn" | "fail";

/** What one check found. */
export interface Finding {
  check: string;
  level: Level;
  found: string;
  /** what the reader can do; absent when nothing is to be done */
  advice?: string;
}

/** The machine as the checks see it. Paths can point into a fixture. */
export interface Machine {
  readonly home: string;
  readonly cacheDir: string;
  readonly runner: CommandRunner;
  /** folders in which programs are looked up */
  readonly path: readonly string[];
  readonly listen: { host: string; port: number };
  /** URL of the daemon of this home, if one was ever started */
  readonly daemonUrl: string | undefined;
  readonly userId: number;
  readonly userName: string;
  readonly files: { kvm: string; meminfo: string; subuid: string; subgid: string };
  /** boots a tiny guest with KVM, where there is a prober: a /dev/kvm that opens may still not run a guest */
  readonly probeKvm?: () => Promise<{ usable: boolean; reason: string }>;
}

export type Check = (machine: Machine) => Promise<Finding[]>;
