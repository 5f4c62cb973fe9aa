import { z } from "zod";

/**
 * What goes into the guest images. The defaults are here; a JSON file named by the environment variable HOB_RECIPE
 * overrides any field, for instance to add packages to every sprite of this installation.
 */
export const imageRecipe = z.strictObject({
  /** Debian suite of the guests, as in sources.list(5) */
  suite: z.string().regex(/^[a-z]+$/),
  /** Debian mirror; empty = as this machine's own apt is configured, else mmdebstrap's default */
  mirror: z.union([z.literal(""), z.url()]),
  /** the VM's root namespace: what the pilot runs */
  rootNamespace: z.array(z.string()),
  /** lowest layer of the user's system */
  systemBase: z.array(z.string()),
  /** top read-only layer of the user's system: what `systemBase` does not need */
  languages: z.array(z.string()),
});
export type ImageRecipe = z.infer<typeof imageRecipe>;

export const DEFAULT_RECIPE: ImageRecipe = {
  suite: "trixie",
  mirror: "",
  rootNamespace: [
    "ca-certificates",
    "crun",
    "dmsetup",
    "dnsmasq-base",
    "e2fsprogs",
    "iproute2",
    "kmod",
    "libatomic1",
    "libstdc++6",
    "mount",
    "nbd-client",
    "nftables",
    "procps",
    "thin-provisioning-tools",
    "util-linux",
  ],
  systemBase: [
    "aardvark-dns",
    "acl",
    "bash-completion",
    "bind9-dnsutils",
    "buildah",
    "bzip2",
    "ca-certificates",
    "crun",
    "curl",
    "file",
    "fuse-overlayfs",
    "fuse3",
    "gnupg",
    "htop",
    "iproute2",
    "iptables",
    "iputils-ping",
    "jq",
    "less",
    "lsof",
    "netavark",
    "netcat-openbsd",
    "net-tools",
    "nftables",
    "openssh-client",
    "passt",
    "pciutils",
    "podman",
    "procps",
    "psmisc",
    "ripgrep",
    "rsync",
    "slirp4netns",
    "strace",
    "sudo",
    "tini",
    "tmux",
    "tree",
    "uidmap",
    "unzip",
    "vim",
    "wget",
    "xz-utils",
    "zip",
    "zsh",
    "zstd",
  ],
  languages: [
    "autoconf",
    "build-essential",
    "cmake",
    "gdb",
    "git",
    "libssl-dev",
    "pkg-config",
    "python3",
    "python3-dev",
    "python3-pip",
    "python3-venv",
    "sqlite3",
  ],
};
