import type { NetworkRule } from "@hob/protocol";
import fc from "fast-check";

const label = fc.constantFrom("a", "b", "aa", "x-y", "_t");

/** Names of few labels, so that rules and names often meet; below the domain that the world of the tests answers for. */
export const anyName: fc.Arbitrary<string> = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => [...labels, "prop"].join("."));

const anyDomain = fc.oneof(
  anyName,
  anyName.map((name) => `*.${name}`),
  fc.constantFrom("*", "*.prop"),
);

/** Rules without contradiction, as the schema lets them through. */
export const anyRules: fc.Arbitrary<NetworkRule[]> = fc
  .uniqueArray(fc.record({ domain: anyDomain, action: fc.constantFrom("allow" as const, "deny" as const) }), {
    selector: ({ domain }) => domain,
    minLength: 1,
    maxLength: 8,
  })
  .chain((rules) => fc.boolean().map((include) => (include ? [{ include: "defaults" as const }, ...rules] : rules)));
