import type { CommandRunner } from "@hob/linux";
import { SPRITE_NETWORK } from "../config.ts";

/**
 * The packet filter of the root namespace, nft(8): the sprite reaches the outside through NAT and the resolver on its
 * gateway address, and nothing else of the root namespace. Neither the uplink's gateway nor the host's own addresses
 * are reached: what listens on the host is not for sprites.
 *
 * The chains `names`, `egress` and `ingress` belong to the network policy (egress-rules.ts); empty, they restrict nothing.
 */
export function firewallRules(uplink: { device: string; address: string; gateway: string }): string {
  const { outerName } = SPRITE_NETWORK;
  return `
table inet hob {
  set host {
    type ipv4_addr
  }
${POLICY_SETS}
  chain spoofed {
    type filter hook prerouting priority raw; policy accept;
    iifname "${outerName}" ip saddr != ${SPRITE_NETWORK.ipv4Range} drop
    iifname "${outerName}" ip6 saddr != { ${SPRITE_NETWORK.ipv6Range}, fe80::/10, :: } drop
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "${outerName}" meta l4proto { tcp, udp } th dport 53 limit rate over ${QUERIES_PER_SECOND}/second burst ${2 * QUERIES_PER_SECOND} packets drop
    iifname "${outerName}" meta l4proto { tcp, udp } th dport 53 jump names
    iifname "${outerName}" ct state established,related accept
    iifname "${outerName}" meta l4proto { tcp, udp } th dport 53 accept
    iifname "${outerName}" icmp type echo-request accept
    iifname "${outerName}" icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept
    iifname "${outerName}" drop
  }
  chain names {
  }
  chain egress {
  }
  chain ingress {
  }
  chain blocked {
    limit rate 10/second burst 50 packets log prefix "${BLOCKED_PREFIX} " level info
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    iifname "${outerName}" ip daddr ${uplink.gateway} drop
    iifname "${outerName}" ip daddr @host reject
    iifname "${outerName}" ip daddr 169.254.0.0/16 reject
    iifname "${outerName}" jump egress
    iifname "${outerName}" oifname "${uplink.device}" accept
    iifname "${uplink.device}" oifname "${outerName}" jump ingress
    iifname "${uplink.device}" oifname "${outerName}" ct state established,related accept
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${uplink.device}" ip saddr ${SPRITE_NETWORK.ipv4Range} masquerade
  }
}
`;
}

/** Packets to the resolver; the pilot reads its log, and a sprite must not keep its own pilot busy. */
const QUERIES_PER_SECOND = 1_000;

/** Begins what the kernel logs of a packet that a policy stopped. */
export const BLOCKED_PREFIX = "hob-blocked";

/** Ranges that no name makes reachable: the registries of special-purpose addresses, RFC 6890, and multicast. */
const PRIVATE_IPV4 =
  "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.168.0.0/16 198.18.0.0/15 224.0.0.0/3";
/** Also what carries an IPv4 address in it: mapped, NAT64 (RFC 6052, RFC 8215), 6to4, Teredo. */
const PRIVATE_IPV6 = "::/96 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/32 2002::/16 fc00::/7 fe80::/9 ff00::/8";

/** An address that a name resolved to stays this long, and is renewed when it is half through: longer than any client may use it. */
export const ALLOWED_SECONDS = 24 * 3_600;

/** More than these a sprite cannot make the kernel remember; names beyond them resolve, and are not reached. */
export const ALLOWED_MAX = 16_384;

const POLICY_SETS = `  set private4 {
    type ipv4_addr
    flags interval
    elements = { ${PRIVATE_IPV4.replaceAll(" ", ", ")} }
  }
  set private6 {
    type ipv6_addr
    flags interval
    elements = { ${PRIVATE_IPV6.replaceAll(" ", ", ")} }
  }
  set allowed4 {
    type ipv4_addr
    flags timeout
    timeout ${ALLOWED_SECONDS}s
    size ${ALLOWED_MAX}
  }
  set allowed6 {
    type ipv6_addr
    flags timeout
    timeout ${ALLOWED_SECONDS}s
    size ${ALLOWED_MAX}
  }`;

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

  /** One transaction: all of it, or nothing. */
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
