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
