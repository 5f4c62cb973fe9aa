import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { DEFAULT_DOMAINS, type NetworkRule, networkPolicy, type PolicyAction, parseDomainPattern } from "@hob/protocol";
import fc from "fast-check";
import { renewRules, restrictRules } from "../src/network/egress-rules.ts";
import { resolverConfig } from "../src/network/resolver-config.ts";
import { compileRules, verdictOf } from "../src/network/rules.ts";
import { anyName, anyRules } from "./support/rules.ts";

/** The rules as a person reads them: of those that match, the most specific. */
function model(rules: readonly NetworkRule[], name: string): PolicyAction {
  const own = rules.filter((rule) => "domain" in rule);
  const included = rules.some((rule) => "include" in rule) ? Object.values(DEFAULT_DOMAINS).flat() : [];
  const all = [...included.map((domain) => ({ domain, action: "allow" as const })), ...own];
  let best = { weight: -1, action: "deny" as PolicyAction };
  for (const { domain, action } of all) {
    const suffix = domain.slice(1);
    const weight =
      domain === name
        ? 10_000
        : domain === "*"
          ? 0
          : domain.startsWith("*.") && name.endsWith(suffix) && name !== suffix
            ? suffix.length
            : -1;
    if (weight >= 0 && weight >= best.weight) best = { weight, action };
  }
  return best.action;
}

describe("rules", () => {
  test("decide as their description says", () => {
    fc.assert(
      fc.property(anyRules, anyName, (rules, name) => {
        const compiled = compileRules(rules);
        assert.equal(verdictOf(compiled, name).action, model(rules, name));
        assert.deepEqual(verdictOf(compiled, `${name.toUpperCase()}.`), verdictOf(compiled, name));
      }),
      { numRuns: 2_000 },
    );
  });

  test("a policy's own rule goes before what it includes, wherever it stands", () => {
    const rules = compileRules([{ domain: "github.com", action: "deny" }, { include: "defaults" }]);
    assert.deepEqual(verdictOf(rules, "github.com"), { action: "deny", rule: "github.com" });
    assert.deepEqual(verdictOf(rules, "raw.githubusercontent.com"), { action: "allow", rule: "*.githubusercontent.com" });
    assert.deepEqual(verdictOf(rules, "example.com"), { action: "deny", rule: undefined });
  });

  test("the defaults are patterns in their normal form, each once", () => {
    const all = Object.values(DEFAULT_DOMAINS).flat();
    for (const domain of all) assert.deepEqual(parseDomainPattern(domain), { ok: true, pattern: domain });
    assert.equal(new Set(all).size, all.length);
  });
});

describe("configuration", () => {
  const upstream = ["10.9.0.3"];
  const OPTION =
    /^(?:no-[a-z]+|user=root|pid-file=[a-z./]+|bind-dynamic|interface=spr0h|except-interface=lo|log-queries=extra|log-facility=-|cache-size=\d+|max-ttl=3600|nftset=\/#\/4#inet#hob#allowed4,6#inet#hob#allowed6|server=(?:\/(?:\*\.)?[a-z0-9_.-]+\/)?(?:10\.9\.0\.3|127\.0\.0\.1#5399))$/;
  const config = (rules: readonly NetworkRule[]) =>
    resolverConfig({ upstream, rules: compileRules(rules), pidFile: "/run/hob/dnsmasq.pid" });

  /** Text that somebody would send who wants into a configuration. */
  const hostile = fc.oneof(
    fc.string({ unit: "binary", maxLength: 40 }),
    fc
      .tuple(
        fc.constantFrom("a.test", "*.a.test", "*"),
        fc.constantFrom("\n", "\r", "\0", "/", "#", "\\", " ", '"', ",", "@", "%0a", "\u2028", "。"),
        fc.constantFrom(
          "server=6.6.6.6",
          "/6.6.6.6",
          "conf-script=/bin/sh",
          "dhcp-script=/x",
          "addn-hosts=/etc/shadow",
          "}; flush ruleset",
          "b.test",
        ),
      )
      .map((parts) => parts.join("")),
  );

  test("whatever a rule's domain is, the schema refuses it or the resolver's configuration holds nothing but options of ours", () => {
    fc.assert(
      fc.property(fc.array(hostile, { minLength: 1, maxLength: 5 }), fc.constantFrom("allow", "deny"), (domains, action) => {
        const parsed = networkPolicy.safeParse({ rules: domains.map((domain) => ({ domain, action })) });
        if (!parsed.success) return;
        for (const line of config(parsed.data.rules).trimEnd().split("\n")) assert.match(line, OPTION);
      }),
      { numRuns: 3_000 },
    );
  });

  test("a domain that was not checked stops the configuration", () => {
    for (const domain of ["a\nserver=6.6.6.6", "a b", "a\\b", 'a"b', "a@b"])
      assert.throws(() => config([{ domain, action: "allow" }]), /unexpected character/);
  });

  test("no address but addresses gets into the packet filter", () => {
    const text = fc.oneof(
      fc.string({ maxLength: 30 }),
      fc.ipV4(),
      fc.ipV6(),
      fc.ipV6().map((address) => `${address}%eth0 }; flush ruleset`),
    );
    fc.assert(
      fc.property(fc.array(text, { maxLength: 6 }), (addresses) => {
        for (const rules of [restrictRules(7, addresses), renewRules(addresses)]) {
          const elements = [...rules.matchAll(/^(?:add|delete) element inet hob allowed[46] \{ (.*) \}$/gm)].flatMap(([, list = ""]) =>
            list.split(", "),
          );
          for (const element of elements) assert.match(element, /^[0-9a-fA-F.:]+$/);
          assert.ok(!rules.includes("ruleset"));
        }
      }),
    );
  });
});
