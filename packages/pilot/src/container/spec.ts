import { PATHS } from "../config.ts";
import { ID_MAP, SPRITE_USER } from "./ids.ts";
import { SECCOMP_PROFILE } from "./seccomp.ts";

/** Name of the inner container for crun, and of its cgroup. */
export const CONTAINER_ID = "sprite";
export const CGROUP = "/sys/fs/cgroup/sprite";

export const DEFAULT_PATH = "/.sprite/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Folders of the volume that are mounted as they are, not through the overlay: overlayfs refuses an upper folder that
 * is itself on overlayfs, so this is where nested containers keep their layers.
 */
export const PLAIN_DIRECTORIES = [
  { name: "docker", target: "/var/lib/docker", uid: 0, mode: 0o710 },
  { name: "containers", target: "/var/lib/containers", uid: 0, mode: 0o755 },
  { name: "user-containers", target: "/home/sprite/.local/share/containers", uid: SPRITE_USER.uid, mode: 0o755 },
  { name: "tmp", target: "/tmp", uid: 0, mode: 0o1777 },
] as const;

const bind = (source: string, destination: string, ...options: string[]) => ({
  destination,
  type: "bind",
  source,
  options: ["bind", ...options],
});

/**
 * What the container's first processes run. They are static and come from read-only images, not from the tree that the
 * user may change: a sprite starts also when its /usr is gone.
 */
const INIT_PROGRAMS = [
  { source: `${PATHS.layers.base}/.pilot/tini`, target: "/.pilot/tini" },
  { source: "/pilot/inside/tail", target: "/.pilot/tail" },
] as const;

/** Devices of the VM that programs in the sprite may use, beside those of every container. */
export const DEVICES = ["/dev/fuse", "/dev/net/tun"] as const;

const ALL_CAPABILITIES =
  "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM"
    .split(" ")
    .map((name) => `CAP_${name}`);

/**
 * config.json of the inner container, OCI runtime specification 1.0.
 *
 * All capabilities are in its bounding set and mean something only towards its own user namespace. /proc and /sys are
 * not masked: the user namespace protects them, and a nested container could not mount a proc of its own under masks
 * (mount_namespaces(7), "the mount must be fully visible").
 */
export function containerSpec(): object {
  const { firstId: hostID, count: size } = ID_MAP;
  return {
    ociVersion: "1.0.2",
    root: { path: PATHS.rootfs, readonly: false },
    hostname: "sprite",
    process: {
      terminal: false,
      user: { uid: SPRITE_USER.uid, gid: SPRITE_USER.gid },
      args: ["/.pilot/tini", "--", "tail", "-f", "/dev/null"],
      // tini finds the tail of the platform first.
      env: [`PATH=/.pilot:${DEFAULT_PATH}`, `HOME=${SPRITE_USER.home}`],
      cwd: "/",
      capabilities: { bounding: ALL_CAPABILITIES, effective: [], inheritable: [], permitted: [], ambient: [] },
      noNewPrivileges: false,
      oomScoreAdj: 0,
    },
    mounts: [
      { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
      { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "strictatime", "mode=755", "size=65536k"] },
      {
        destination: "/dev/pts",
        type: "devpts",
        source: "devpts",
        options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
      },
      { destination: "/dev/shm", type: "tmpfs", source: "shm", options: ["nosuid", "nodev", "mode=1777"] },
      { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: ["nosuid", "noexec", "nodev"] },
      { destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev"] },
      { destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["nosuid", "noexec", "nodev", "relatime"] },
      { destination: "/run", type: "tmpfs", source: "tmpfs", options: ["nosuid", "nodev", "mode=755"] },
      ...PLAIN_DIRECTORIES.map(({ name, target }) => bind(`${PATHS.volume}/${name}`, target, "rw")),
      ...DEVICES.map((device) => bind(device, device, "rw")),
      bind(PATHS.machineId, "/etc/machine-id", "ro"),
      ...INIT_PROGRAMS.map(({ source, target }) => bind(source, target, "ro", "nosuid", "nodev")),
      // Checkpoints appear and go while the container runs: mounts below the source propagate, mount_namespaces(7).
      // crun takes the first of "bind" and "rbind" that it finds.
      {
        destination: "/.sprite/checkpoints",
        type: "bind",
        source: PATHS.checkpoints,
        options: ["rbind", "rslave", "ro", "nosuid", "nodev"],
      },
    ],
    linux: {
      namespaces: ["pid", "mount", "network", "uts", "ipc", "cgroup", "user"].map((type) => ({ type })),
      uidMappings: [{ containerID: 0, hostID, size }],
      gidMappings: [{ containerID: 0, hostID, size }],
      cgroupsPath: "/sprite",
      // ping(8) without privileges, for every group of the sprite and of containers in it; icmp(7).
      sysctl: { "net.ipv4.ping_group_range": `0 ${size - 1}` },
      rootfsPropagation: "shared",
      maskedPaths: [],
      readonlyPaths: [],
      seccomp: SECCOMP_PROFILE,
      resources: { devices: [{ allow: true }] },
    },
  };
}
