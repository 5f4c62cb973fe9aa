import type { CommandRunner } from "@hob/linux";
import { SPRITE_NETWORK } from "../config.ts";

/**
 * The packet filter of the root namespace, nft(8): the sprite reaches the outside through NAT and the resolver on its
 * gateway address, and nothing else of the root namespace. Neither the uplink's gateway nor the host's own addresses
 * are reached: what listens on the host is not for sprites.
 */
export function firewallRules(uplink: { device: string; address: string; gateway: string }): string {
  const { outerName } = SPRITE_NETWORK;
  return `
table inet hob {
  set host {
    type ipv4_addr
  }
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
    iifname "${outerName}" ip daddr @host reject
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

/** Replaces the host's addresses in the filter, in one transaction. */
export const hostAddressRules = (addresses: readonly string[]): string =>
  `flush set inet hob host\n${addresses.length === 0 ? "" : `add element inet hob host { ${addresses.join(", ")} }\n`}`;

/** The packet filter as it is in force. */
export class Firewall {
  readonly #runner: CommandRunner;
  #hostAddresses = "";

  constructor(runner: CommandRunner) {
    this.#runner = runner;
  }

  apply(rules: string): Promise<unknown> {
    return this.#runner.run({ argv: ["nft", "-f", "-"], stdin: rules, timeoutMs: 20_000 });
  }

  /** Closes the way to these addresses. Costs nothing when they are those of the last time, as in most clones of a template. */
  async closeHost(addresses: readonly string[]): Promise<void> {
    const rules = hostAddressRules(addresses);
    if (rules === this.#hostAddresses) return;
    await this.apply(rules);
    this.#hostAddresses = rules;
  }
}
