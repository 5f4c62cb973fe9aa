import { SPRITE_NETWORK } from "../config.ts";
import { type CompiledRules, verdictBelow } from "./rules.ts";

/** Where names are asked that the policy denies; a server of the pilot's that refuses whatever it is asked. */
export const REFUSER = { address: "127.0.0.1", port: 5399 } as const;

/** Longest time a client may keep an address, seconds; the packet filter keeps it for longer. */
export const MAX_TTL_SECONDS = 3_600;

export interface ResolverOptions {
  /** resolvers outside the sprite: addresses, with `#port` if it is not 53 */
  upstream: readonly string[];
  /** absent: every name is answered */
  rules?: CompiledRules | undefined;
  pidFile: string;
}

/**
 * The configuration of dnsmasq(8).
 *
 * `--bind-dynamic` lets the interface come and go with the inner container. Queries are logged to the pilot, which
 * learns from it which address belongs to which name. Under a policy nothing is cached: an answer from the cache is
 * given without a look at the rules, and does not put the address into the packet filter's set.
 */
export function resolverConfig({ upstream, rules, pidFile }: ResolverOptions): string {
  return lines([
    ...["no-resolv", "no-hosts", "no-poll", "no-negcache", "no-ident", "user=root", `pid-file=${pidFile}`],
    ...["bind-dynamic", `interface=${SPRITE_NETWORK.outerName}`, "except-interface=lo"],
    ...["log-queries=extra", "log-facility=-"],
    ...(rules === undefined ? ["cache-size=1000", ...upstream.map((server) => `server=${server}`)] : restricted(upstream, rules)),
  ]);
}

const restricted = (upstream: readonly string[], rules: CompiledRules): string[] => [
  "cache-size=0",
  `max-ttl=${MAX_TTL_SECONDS}`,
  // Filled before the answer is sent: a client never knows an address that it may not use yet.
  "nftset=/#/4#inet#hob#allowed4,6#inet#hob#allowed6",
  ...serverLines(upstream, rules),
];

/**
 * Rules as `server=` lines. To dnsmasq `/name/` means a name and all below it and `/*.name/` all below it only, and
 * the longer one wins; so a rule for exactly one name is followed by what goes for the names below it. Without a line
 * for all other names dnsmasq refuses them itself.
 */
function serverLines(upstream: readonly string[], rules: CompiledRules): string[] {
  const refuser = [`${REFUSER.address}#${REFUSER.port}`];
  const servers = (action: "allow" | "deny") => (action === "allow" ? upstream : refuser);
  const result = new Map<string, readonly string[]>();
  for (const [name, action] of rules.exact) {
    result.set(name, servers(action));
    result.set(`*.${name}`, servers(verdictBelow(rules, name).action));
  }
  for (const [suffix, action] of rules.below) if (suffix !== "") result.set(`*.${suffix}`, servers(action));
  const forAll = rules.below.get("") === "allow" ? upstream : [];
  return [
    ...[...result].flatMap(([domain, to]) => to.map((server) => `server=/${domain}/${server}`)),
    ...forAll.map((server) => `server=${server}`),
  ];
}

/**
 * One option a line. Domains come here checked by the schema; this is the last place where a character that means
 * something to dnsmasq could still be stopped.
 */
function lines(options: readonly string[]): string {
  for (const option of options) {
    if (!/^[A-Za-z0-9_.*/#:,=-]+$/.test(option)) throw new Error("resolver configuration: an option with an unexpected character");
  }
  return `${options.join("\n")}\n`;
}
