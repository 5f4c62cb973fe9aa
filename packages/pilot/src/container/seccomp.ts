/**
 * Seccomp profile of the inner container, config-linux.md#seccomp of the OCI runtime specification.
 *
 * The user namespace is the barrier; the filter takes away what no program in a container has use for and where
 * kernels had their holes. It must not be in the way of nested containers: mount, unshare, clone with new namespaces,
 * keyctl and bpf stay allowed.
 */
const DENIED_SYSTEM_CALLS = [
  "acct",
  "delete_module",
  "finit_module",
  "init_module",
  "ioperm",
  "iopl",
  "kexec_file_load",
  "kexec_load",
  "lookup_dcookie",
  "nfsservctl",
  "open_by_handle_at",
  "quotactl",
  "quotactl_fd",
  "swapoff",
  "swapon",
  "sysfs",
  "uselib",
  "userfaultfd",
  "vhangup",
];

export const SECCOMP_PROFILE = {
  defaultAction: "SCMP_ACT_ALLOW",
  syscalls: [{ names: DENIED_SYSTEM_CALLS, action: "SCMP_ACT_ERRNO", errnoRet: 1 }],
} as const;

/** Flags of clone(2) that make namespaces; CLONE_NEWTIME shares its bit with the exit signal and is only for clone3 and unshare. */
const NEW_NAMESPACES = [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

/** What only containers, debuggers of the kernel and mounts have use for. */
const STRICTLY_DENIED = [
  "add_key",
  "bpf",
  "fsconfig",
  "fsmount",
  "fsopen",
  "fspick",
  "io_uring_enter",
  "io_uring_register",
  "io_uring_setup",
  "keyctl",
  "mount",
  "mount_setattr",
  "move_mount",
  "open_tree",
  "perf_event_open",
  "pivot_root",
  "request_key",
  "setns",
  "umount2",
  "unshare",
];

const EPERM = 1;
const ENOSYS = 38;

/**
 * For privileges below those of a machine of one's own. Without new user namespaces nobody gets back, inside of one,
 * capabilities that the bounding set has lost. clone3(2) keeps its flags in memory, where a filter does not see them:
 * it is said to be missing, and libraries fall back to clone.
 */
export const STRICT_SECCOMP_PROFILE = {
  defaultAction: "SCMP_ACT_ALLOW",
  syscalls: [
    { names: [...DENIED_SYSTEM_CALLS, ...STRICTLY_DENIED], action: "SCMP_ACT_ERRNO", errnoRet: EPERM },
    { names: ["clone3"], action: "SCMP_ACT_ERRNO", errnoRet: ENOSYS },
    ...NEW_NAMESPACES.map((flag) => ({
      names: ["clone"],
      action: "SCMP_ACT_ERRNO",
      errnoRet: EPERM,
      args: [{ index: 0, value: flag, valueTwo: flag, op: "SCMP_CMP_MASKED_EQ" }],
    })),
  ],
} as const;
