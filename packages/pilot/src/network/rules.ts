import { DEFAULT_DOMAINS, type NetworkRule, type PolicyAction } from "@hob/protocol";

export interface Verdict {
  action: PolicyAction;
  /** `domain` of the rule that decided; undefined: none matched */
  rule: string | undefined;
}

/** A network policy, made ready for look-up. */
export interface CompiledRules {
  /** by whole name */
  readonly exact: ReadonlyMap<string, PolicyAction>;
  /** by what follows `*.`; the empty name is that of the rule `*` */
  readonly below: ReadonlyMap<string, PolicyAction>;
}

/** Takes rules that the schema has accepted. What a policy says itself goes before what it includes. */
export function compileRules(rules: readonly NetworkRule[]): CompiledRules {
  const exact = new Map<string, PolicyAction>();
  const below = new Map<string, PolicyAction>();
  const add = (domain: string, action: PolicyAction) => {
    if (domain === "*") below.set("", action);
    else if (domain.startsWith("*.")) below.set(domain.slice(2), action);
    else exact.set(domain, action);
  };
  if (rules.some((rule) => "include" in rule)) for (const domain of Object.values(DEFAULT_DOMAINS).flat()) add(domain, "allow");
  for (const rule of rules) if ("domain" in rule) add(rule.domain, rule.action);
  return { exact, below };
}

/** What the policy says of a name: the rule of exactly this name, else the longest `*.` rule above it, else `*`, else no. */
export function verdictOf(rules: CompiledRules, name: string): Verdict {
  const normal = name.toLowerCase().replace(/\.$/, "");
  const exact = rules.exact.get(normal);
  if (exact !== undefined) return { action: exact, rule: normal };
  return verdictBelow(rules, normal.slice(normal.indexOf(".") + 1 || normal.length));
}

/** What it says of names directly below a name that have no rule of their own. */
export function verdictBelow({ below }: CompiledRules, parent: string): Verdict {
  for (let suffix = parent; suffix !== ""; suffix = suffix.slice(suffix.indexOf(".") + 1 || suffix.length)) {
    const action = below.get(suffix);
    if (action !== undefined) return { action, rule: `*.${suffix}` };
  }
  const action = below.get("");
  return action === undefined ? { action: "deny", rule: undefined } : { action, rule: "*" };
}
