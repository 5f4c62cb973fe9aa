import type { CommandRunner } from "@hob/linux";
import { SPRITE_NETWORK } from "../config.ts";

/**
 * The packet filter of the root namespace, nft(8): the sprite reaches the outside through NAT and the resolver on its
 * gateway address, and nothing else of the root namespace; its gateway does not lead to the launcher's own network.
 */
export function firewallRules(uplink: { device: string; address: string; gateway: string }): string {
  const { outerName } = SPRITE_NETWORK;
  return `
table inet hob {
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "${outerName}" ct state established,related accept
    iifname "${outerName}" meta l4proto { tcp, udp } th dport 53 accept
    iifname "${outerName}" icmp type echo-request accept
    iifname "${outerName}" icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept
    iifname "${outerName}" drop
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    iifname "${outerName}" ip daddr ${uplink.gateway} drop
    iifname "${outerName}" ip daddr 169.254.0.0/16 reject
    iifname "${outerName}" oifname "${uplink.device}" accept
    iifname "${uplink.device}" oifname "${outerName}" ct state established,related accept
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${uplink.device}" ip saddr 10.0.0.0/24 masquerade
  }
}
`;
}

export async function applyFirewall(runner: CommandRunner, rules: string): Promise<void> {
  await runner.run({ argv: ["nft", "-f", "-"], stdin: rules, timeoutMs: 20_000 });
}
