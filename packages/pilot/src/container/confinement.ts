import { type PrivilegesPolicy, type ResourcesPolicy, SPRITE_DEVICES } from "@hob/protocol";

/** What a container, and whatever enters it, may do and use: its privileges and resources policies, worked out. */
export interface Confinement {
  /** capabilities that programs can get at all, capabilities(7); `undefined`: every one */
  readonly capabilities: readonly string[] | undefined;
  /** set-user-ID programs such as sudo give nothing, PR_SET_NO_NEW_PRIVS in prctl(2) */
  readonly noNewPrivileges: boolean;
  /** whether the seccomp filter also takes away new namespaces, mounts and what goes with them */
  readonly strictSeccomp: boolean;
  /** of SPRITE_DEVICES */
  readonly devices: readonly string[];
  /** bytes; undefined: as much as the machine has */
  readonly memoryBytes: number | undefined;
  /** microseconds of processor time in each CPU_PERIOD_US */
  readonly cpuQuotaUs: number | undefined;
}

export const CPU_PERIOD_US = 100_000;

/** The capabilities that Docker and Podman leave a container's root: enough for sudo, apt-get and servers, not for containers in it. */
const STANDARD_CAPABILITIES = [
  "CAP_AUDIT_WRITE",
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_MKNOD",
  "CAP_NET_BIND_SERVICE",
  "CAP_NET_RAW",
  "CAP_SETFCAP",
  "CAP_SETGID",
  "CAP_SETPCAP",
  "CAP_SETUID",
  "CAP_SYS_CHROOT",
] as const;

const PROFILES = {
  privileged: { capabilities: undefined, noNewPrivileges: false, strictSeccomp: false, devices: SPRITE_DEVICES },
  standard: { capabilities: STANDARD_CAPABILITIES, noNewPrivileges: false, strictSeccomp: true, devices: SPRITE_DEVICES },
  minimal: { capabilities: [], noNewPrivileges: true, strictSeccomp: true, devices: [] },
} as const;

export function confinementOf(privileges: PrivilegesPolicy, resources: ResourcesPolicy): Confinement {
  const profile = PROFILES[privileges.profile || "privileged"];
  const { memory, cpu } = resources;
  const limited = memory?.limit_mb !== undefined && memory.autoscale !== true;
  return {
    ...profile,
    noNewPrivileges: privileges.noNewPrivileges ?? profile.noNewPrivileges,
    devices: privileges.devices === undefined ? profile.devices : SPRITE_DEVICES.filter((device) => privileges.devices?.includes(device)),
    memoryBytes: limited ? (memory.limit_mb ?? 0) * 1024 * 1024 : undefined,
    cpuQuotaUs: cpu === undefined ? undefined : Math.max(1_000, Math.round(cpu.limit * CPU_PERIOD_US)),
  };
}

export const UNCONFINED: Confinement = confinementOf({}, {});
