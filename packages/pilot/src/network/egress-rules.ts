import { isIPv4, isIPv6 } from "node:net";

const TABLE = "inet hob";

/** DNS, and DNS over TLS or QUIC: of these only the sprite's own resolver is reached. */
const DNS_PORTS = "{ 53, 853 }";

const flush = (...chains: string[]): string[] => chains.map((chain) => `flush chain ${TABLE} ${chain}`);
const text = (lines: readonly string[]): string => `${lines.join("\n")}\n`;

/** Nothing passes, and the resolver is not heard: the state between two policies, and after one that could not be put in force. */
export const holdRules = (): string =>
  text([
    ...flush("names", "egress", "ingress"),
    `add rule ${TABLE} names drop`,
    `add rule ${TABLE} egress drop`,
    `add rule ${TABLE} ingress drop`,
  ]);

/** No restriction. */
export const openRules = (): string =>
  text([...flush("names", "egress", "ingress"), `flush set ${TABLE} allowed4`, `flush set ${TABLE} allowed6`]);

/**
 * A packet passes to an address that an allowed name resolved to. The connection is then marked with the number of the
 * policy: it goes on when the address leaves the set, and is judged anew, whichever side sends first, under the next policy.
 *
 * @param generation a number that no policy of this kernel has had; 1 to 2^31 - 1
 * @param addresses those that are allowed from the start
 */
export function restrictRules(generation: number, addresses: readonly string[]): string {
  const egress = [
    "ip daddr @private4 goto blocked",
    "ip6 daddr @private6 goto blocked",
    `meta l4proto { tcp, udp } th dport ${DNS_PORTS} goto blocked`,
    `ct mark ${generation} return`,
    `ip daddr @allowed4 ct mark set ${generation} return`,
    `ip6 daddr @allowed6 ct mark set ${generation} return`,
    "goto blocked",
  ];
  const ingress = [
    `ct mark ${generation} return`,
    `ip saddr @allowed4 ct mark set ${generation} return`,
    `ip6 saddr @allowed6 ct mark set ${generation} return`,
    "drop",
  ];
  return text([
    openRules().trimEnd(),
    ...addElements(
      "allowed4",
      addresses.filter((address) => isIPv4(address)),
    ),
    ...addElements("allowed6", addresses.filter(isPlainIpv6)),
    ...egress.map((rule) => `add rule ${TABLE} egress ${rule}`),
    ...ingress.map((rule) => `add rule ${TABLE} ingress ${rule}`),
  ]);
}

/** Gives addresses their full time again. An `add` of what is there changes nothing, so they are taken out first; one transaction. */
export function renewRules(addresses: readonly string[]): string {
  const sets = [
    ["allowed4", addresses.filter((address) => isIPv4(address))],
    ["allowed6", addresses.filter(isPlainIpv6)],
  ] as const;
  return text(
    sets.flatMap(([set, list]) =>
      list.length === 0
        ? []
        : [...addElements(set, list), `delete element ${TABLE} ${set} { ${list.join(", ")} }`, ...addElements(set, list)],
    ),
  );
}

const addElements = (set: string, list: readonly string[]): string[] =>
  list.length === 0 ? [] : [`add element ${TABLE} ${set} { ${list.join(", ")} }`];

/** A scope, `%eth0`, is no part of an address. */
const isPlainIpv6 = (address: string): boolean => isIPv6(address) && !address.includes("%");
