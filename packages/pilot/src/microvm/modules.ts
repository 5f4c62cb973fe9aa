import type { CommandRunner } from "@hob/linux";

/**
 * Kernel modules that the platform uses, and those that programs inside a sprite may need: a container cannot load
 * any, and /sbin/modprobe of the root namespace is not called for it reliably. Loaded once, at boot.
 */
const MODULES = [
  ...["overlay", "veth", "tun", "fuse", "nbd"],
  ...["nf_tables", "nft_chain_nat", "nft_masq", "nft_ct", "nft_reject_inet", "nft_compat", "nft_fib_inet"],
  ...[
    "bridge",
    "br_netfilter",
    "xt_MASQUERADE",
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_mark",
    "xt_multiport",
    "xt_nat",
    "xt_tcpudp",
  ],
  ...["ip_tables", "iptable_nat", "iptable_filter", "ip6_tables", "ip6table_nat", "ip6table_filter", "ipvlan", "macvlan"],
];

export async function loadModules(runner: CommandRunner): Promise<void> {
  await runner.run({ argv: ["modprobe", "--all", "--quiet", "--use-blacklist", ...MODULES], timeoutMs: 60_000 }).catch(() => {
    // A kernel may have some of them built in or not at all: what is really needed fails later, by name.
  });
}

/** What the volume needs, which is mounted while the others are still being loaded. */
export async function loadDeviceMapper(runner: CommandRunner): Promise<void> {
  await runner.run({ argv: ["modprobe", "--all", "--use-blacklist", "dm_thin_pool", "ext4"], timeoutMs: 60_000 });
}
