import { z } from "zod";
import { parseDomainPattern } from "./domain-pattern.ts";
import type { RouteDescription } from "./route.ts";

/** Bounds of one network policy; both together keep it small enough for the boot configuration of a VM. */
const RULES_MAX = 1_000;
const DOMAIN_BYTES_MAX = 64 * 1024;

const domain = z.string().transform((text, context) => {
  const parsed = parseDomainPattern(text);
  if (parsed.ok) return parsed.pattern;
  context.addIssue({ code: "custom", message: parsed.reason });
  return z.NEVER;
});

export const POLICY_ACTIONS = ["allow", "deny"] as const;
export type PolicyAction = (typeof POLICY_ACTIONS)[number];

const networkRule = z
  .strictObject({ domain: domain.optional(), action: z.enum(POLICY_ACTIONS).optional(), include: z.literal("defaults").optional() })
  .transform(({ domain: name, action, include }, context): NetworkRule => {
    if (include !== undefined && name === undefined && action === undefined) return { include };
    if (include === undefined && name !== undefined && action !== undefined) return { domain: name, action };
    context.addIssue({ code: "custom", message: 'either "domain" and "action", or "include" expected' });
    return z.NEVER;
  });

export type NetworkRule = { domain: string; action: PolicyAction } | { include: "defaults" };

/** Which names a sprite may reach. No rule at all: no restriction. With rules, a name that none of them matches is denied. */
export const networkPolicy = z.object({ rules: z.array(networkRule).max(RULES_MAX) }).superRefine(({ rules }, context) => {
  const actions = new Map<string, PolicyAction>();
  let bytes = 0;
  for (const [index, rule] of rules.entries()) {
    if (!("domain" in rule)) continue;
    bytes += rule.domain.length;
    const earlier = actions.get(rule.domain);
    if (earlier !== undefined && earlier !== rule.action) {
      context.addIssue({ code: "custom", path: ["rules", index], message: `${rule.domain} is both allowed and denied` });
    }
    actions.set(rule.domain, rule.action);
  }
  if (bytes > DOMAIN_BYTES_MAX)
    context.addIssue({ code: "custom", path: ["rules"], message: `more than ${DOMAIN_BYTES_MAX} bytes of names` });
});
export type NetworkPolicy = z.infer<typeof networkPolicy>;

/** The same as answers have it: checked, names in their normal form. */
const storedNetworkPolicy = z.object({
  rules: z.array(z.union([z.object({ domain: z.string(), action: z.enum(POLICY_ACTIONS) }), z.object({ include: z.literal("defaults") })])),
});

/** Device nodes that a sprite may be given, and those that every container has. */
export const SPRITE_DEVICES = ["/dev/fuse", "/dev/net/tun"] as const;
export const COMMON_DEVICES = ["/dev/full", "/dev/null", "/dev/ptmx", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"] as const;

export const PRIVILEGE_PROFILES = ["minimal", "standard", "privileged", ""] as const;

/** What programs in a sprite may become. `privileged`, the empty word and no policy are the same: root as on a machine of one's own. */
export const privilegesPolicy = z.strictObject({
  profile: z.enum(PRIVILEGE_PROFILES).optional(),
  /** of SPRITE_DEVICES, those that stay; left out: all, but none with `minimal` */
  devices: z
    .array(z.enum([...SPRITE_DEVICES, ...COMMON_DEVICES]))
    .max(32)
    .optional(),
  noNewPrivileges: z.boolean().optional(),
});
export type PrivilegesPolicy = z.infer<typeof privilegesPolicy>;

export const resourcesPolicy = z.strictObject({
  memory: z
    .strictObject({
      /** MiB that all processes of the sprite may use together */
      limit_mb: z.number().int().min(32).max(1_048_576).optional(),
      /** the limit is where the sprite starts, not where it ends: it may grow to what its machine has */
      autoscale: z.boolean().optional(),
    })
    .optional(),
  cpu: z
    .strictObject({
      /** cores, such as 1.5; Hob's own */
      limit: z.number().min(0.05).max(1_024),
    })
    .optional(),
});
export type ResourcesPolicy = z.infer<typeof resourcesPolicy>;

/** All policies of one sprite, as the host keeps them and tells the pilot. */
export const spritePolicies = z.object({
  /** grows with every change: a pilot never goes back to an older one */
  revision: z.number().int().nonnegative(),
  network: networkPolicy,
  privileges: privilegesPolicy,
  resources: resourcesPolicy,
});
export type SpritePolicies = z.infer<typeof spritePolicies>;

export const NO_POLICIES: SpritePolicies = { revision: 0, network: { rules: [] }, privileges: {}, resources: {} };

export const networkLogQuery = z.object({
  /** newest entries to begin with */
  tail: z.coerce.number().int().min(0).max(10_000).default(1_000),
  follow: z.enum(["true", "false", "1", "0", ""]).default("false"),
});

/** One line of `GET /policy/network/log`. */
export const networkLogEntry = z.object({
  /** RFC 3339 */
  time: z.string(),
  /** `lookup`: a name was asked for; `packet`: one was dropped; `policy`: the rules changed; `suppressed`: more happened than is kept */
  type: z.enum(["lookup", "packet", "policy", "suppressed"]),
  action: z.enum(POLICY_ACTIONS).optional(),
  /** of a lookup: the name, the type of record, and the rule that decided; without a rule, none matched */
  name: z.string().optional(),
  query: z.string().optional(),
  rule: z.string().optional(),
  /** of a packet */
  protocol: z.string().optional(),
  address: z.string().optional(),
  port: z.number().optional(),
  /** number of rules now in force, or of entries left out */
  count: z.number().optional(),
});
export type NetworkLogEntry = z.infer<typeof networkLogEntry>;

const FAMILY = "Policies";
const path = (kind: string) => `/v1/sprites/{name}/policy/${kind}`;
const set = { 204: { summary: "stored, and in force if the sprite runs" }, 400: { summary: "the policy is not valid" } };
const setOrNotInForce = { ...set, 502: { summary: "stored, but the running sprite did not take it" } };

export const policyRoutes: readonly RouteDescription[] = [
  {
    method: "GET",
    path: path("network"),
    family: FAMILY,
    summary: 'The network policy; `{"rules":[]}` when there is none.',
    answers: { 200: { summary: "the policy", body: { json: storedNetworkPolicy } } },
  },
  {
    method: "POST",
    path: path("network"),
    family: FAMILY,
    summary: "Replaces the network policy; an empty list of rules lifts it.",
    body: { json: networkPolicy },
    answers: setOrNotInForce,
  },
  {
    method: "GET",
    path: path("network/log"),
    family: FAMILY,
    summary: "Decisions of the network policy: names asked for, packets dropped.",
    extension: true,
    query: networkLogQuery,
    answers: { 200: { summary: "one entry per line", body: { ndjson: networkLogEntry } }, 400: { summary: "a parameter is malformed" } },
  },
  ...(["privileges", "resources"] as const).flatMap((kind): RouteDescription[] => {
    const json = kind === "privileges" ? privilegesPolicy : resourcesPolicy;
    return [
      {
        method: "GET",
        path: path(kind),
        family: FAMILY,
        summary: `The ${kind} policy; \`{}\` when there is none.`,
        answers: { 200: { summary: "the policy", body: { json } } },
      },
      {
        method: "POST",
        path: path(kind),
        family: FAMILY,
        summary: `Replaces the ${kind} policy.`,
        body: { json },
        answers: setOrNotInForce,
      },
      {
        method: "DELETE",
        path: path(kind),
        family: FAMILY,
        summary: `Lifts the ${kind} policy.`,
        answers: { 204: setOrNotInForce[204], 502: setOrNotInForce[502] },
      },
    ];
  }),
];
