import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type NetworkRule, networkPolicy } from "@hob/protocol";
import fc from "fast-check";
import { Firewall, firewallRules } from "../src/network/firewall.ts";
import { NetworkPolicy } from "../src/network/network-policy.ts";
import { PacketLog } from "../src/network/packet-log.ts";
import { Resolver } from "../src/network/resolver.ts";
import { compileRules, verdictOf } from "../src/network/rules.ts";
import { networksUnavailable, TestNetwork, WORLD } from "./support/network.ts";
import { anyName, anyRules } from "./support/rules.ts";

const RECORDS = [
  `host-record=one.test,${WORLD.one},${WORLD.oneV6}`,
  `host-record=two.test,${WORLD.two},${WORLD.twoV6}`,
  `host-record=a.two.test,${WORLD.two}`,
  `host-record=three.test,${WORLD.three}`,
  `host-record=shared.test,${WORLD.one}`,
  `host-record=sub.one.test,${WORLD.three}`,
  "cname=alias.test,three.test",
  `host-record=xn--mnchen-3ya.test,${WORLD.two}`,
  `host-record=rebind.test,${WORLD.private}`,
  "host-record=metadata.test,169.254.169.254",
  "txt-record=one.test,hello",
  `address=/prop/${WORLD.three}`,
].join("\n");

const GATEWAY = "10.0.0.2";
const allow = (domain: string): NetworkRule => ({ domain, action: "allow" });
const deny = (domain: string): NetworkRule => ({ domain, action: "deny" });

describe("network policy with dnsmasq and nft", { skip: networksUnavailable() ?? false }, () => {
  let network: TestNetwork;
  let policy: NetworkPolicy;
  let resolver: Resolver;
  const audited: object[] = [];

  before(async () => {
    network = await TestNetwork.start(RECORDS);
    const firewall = new Firewall(network.runner);
    await firewall.apply(firewallRules({ device: "eth0", address: "10.9.0.2", gateway: WORLD.gateway }));
    const files = { config: join(network.directory, "dnsmasq.conf"), pid: join(network.directory, "dnsmasq.pid") };
    resolver = new Resolver([WORLD.dns], files, ["ip", "netns", "exec", network.root, "dnsmasq"]);
    policy = new NetworkPolicy({
      firewall,
      resolver,
      refuser: { start: async () => void (await network.rootAgent.ask("refuse")), stop: () => {} },
      audit: { record: (entry) => audited.push(entry) },
      mirror: join(network.directory, "mirror"),
      uptimeMs: () => Math.round(performance.now()),
      packets: new PacketLog(() => {}, "/dev/null"),
    });
    await policy.apply({ rules: [] }, true);
  });
  after(async () => {
    await resolver?.stop();
    await network?.[Symbol.asyncDispose]();
  });

  const set = (...rules: NetworkRule[]) => policy.apply(networkPolicy.parse({ rules }));
  const resolve = (name: string, type = "A") => network.sprite.ask("resolve", { server: GATEWAY, name, type });
  const tcp = (address: string, port = 80) => network.sprite.ask("tcp", { address, port });
  const udp = (address: string, port = 443) => network.sprite.ask("udp", { address, port });
  const refused = { error: "EREFUSED" };

  test("without rules everything is reached", async () => {
    assert.deepEqual(await resolve("one.test"), { result: [WORLD.one] });
    assert.deepEqual(await tcp(WORLD.two), { result: `tcp ::ffff:${WORLD.two}` });
    assert.deepEqual(await tcp(WORLD.twoV6), { result: `tcp ${WORLD.twoV6}` });
    assert.deepEqual(await udp(WORLD.three), { result: "udp" });
    assert.deepEqual(await tcp(WORLD.private), { result: `tcp ::ffff:${WORLD.private}` });
    assert.equal(readFileSync(join(network.directory, "mirror/network.json"), "utf8"), '{\n  "rules": []\n}\n');
  });

  test("what comes from an address that is not the sprite's is not heard", async () => {
    const query = { server: GATEWAY, name: "one.test", waitMs: 500 };
    assert.deepEqual(await network.sprite.ask("resolve", { ...query, from: "10.0.0.1", waitMs: 10_000 }), { result: [WORLD.one] });
    assert.ok("error" in (await network.sprite.ask("resolve", { ...query, from: WORLD.spoofed })));
  });

  test("an allowed name is resolved and reached by TCP, UDP and IPv6; others are refused", async () => {
    await set(allow("one.test"));
    assert.deepEqual(await resolve("two.test"), refused);
    assert.deepEqual(await resolve("two.test", "AAAA"), refused);
    assert.deepEqual(await resolve("one.test", "TXT"), { result: [["hello"]] });
    assert.deepEqual(await resolve("One.TEST"), { result: [WORLD.one] });
    assert.deepEqual(await resolve("one.test."), { result: [WORLD.one] });
    assert.deepEqual(await tcp(WORLD.one), { result: `tcp ::ffff:${WORLD.one}` });
    assert.deepEqual(await udp(WORLD.one), { result: "udp" });
    assert.deepEqual(await resolve("one.test", "AAAA"), { result: [WORLD.oneV6] });
    assert.deepEqual(await tcp(WORLD.oneV6), { result: `tcp ${WORLD.oneV6}` });
    assert.deepEqual(await udp(WORLD.oneV6), { result: "udp" });
  });

  test("an address that no allowed name resolved to is not reached", async () => {
    assert.deepEqual(await tcp(WORLD.two), { error: "ECONNREFUSED" });
    assert.deepEqual(await tcp(WORLD.twoV6), { error: "ECONNREFUSED" });
    assert.ok("error" in (await udp(WORLD.two)));
    assert.ok("error" in (await udp(WORLD.twoV6)));
    assert.deepEqual(await tcp(WORLD.private), { error: "ECONNREFUSED" });
  });

  test("no other resolver is reached, not even at an allowed address", async () => {
    assert.deepEqual(await tcp(WORLD.one, 853), { error: "ECONNREFUSED" });
    assert.ok("error" in (await udp(WORLD.one, 853)));
    const direct = await network.sprite.ask("resolve", { server: WORLD.dns, name: "two.test" });
    assert.ok("error" in direct);
  });

  test("exact before *.name before *, names below an exact one follow the wildcard", async () => {
    await set(deny("*"), allow("*.two.test"), allow("one.test"), deny("*.one.test"), allow("sub.one.test"));
    assert.deepEqual(await resolve("one.test"), { result: [WORLD.one] });
    assert.deepEqual(await resolve("a.two.test"), { result: [WORLD.two] });
    assert.deepEqual(await resolve("two.test"), refused);
    assert.deepEqual(await resolve("sub.one.test"), { result: [WORLD.three] });
    assert.deepEqual(await resolve("other.one.test"), refused);
    await set(allow("*"), deny("two.test"));
    assert.deepEqual(await resolve("two.test"), refused);
    assert.deepEqual(await resolve("a.two.test"), { result: [WORLD.two] });
    assert.deepEqual(await resolve("three.test"), { result: [WORLD.three] });
  });

  test("a name that is an alias brings the addresses behind it; the name behind it stays denied", async () => {
    await set(allow("alias.test"));
    assert.deepEqual(await resolve("alias.test"), { result: [WORLD.three] });
    assert.deepEqual(await tcp(WORLD.three), { result: `tcp ::ffff:${WORLD.three}` });
    assert.deepEqual(await resolve("three.test"), refused);
  });

  test("names in other scripts are punycode", async () => {
    await set(allow("MÜNCHEN.test"));
    assert.deepEqual(await resolve("xn--mnchen-3ya.test"), { result: [WORLD.two] });
  });

  test("an allowed name that resolves to a private address does not make it reachable", async () => {
    await set(allow("rebind.test"), allow("metadata.test"));
    assert.deepEqual(await resolve("rebind.test"), { result: [WORLD.private] });
    assert.deepEqual(await tcp(WORLD.private), { error: "ECONNREFUSED" });
    await resolve("metadata.test");
    assert.ok("error" in (await tcp("169.254.169.254")));
  });

  test("a change cuts connections to what is blocked now, and keeps the others, whoever speaks first", async () => {
    await set(allow("one.test"), allow("two.test"));
    await resolve("one.test");
    await resolve("two.test");
    const kept = await network.sprite.get("open", { address: WORLD.one, port: 80 });
    const cut = await network.sprite.get("open", { address: WORLD.two, port: 80 });
    await set(allow("one.test"));
    assert.deepEqual(await network.sprite.ask("say", { connection: kept }), { result: `again ::ffff:${WORLD.one}` });
    assert.deepEqual(await network.sprite.ask("say", { connection: cut }), { error: "closed" });
    // Reachable without a new look-up: it was known to be the address of a name that is still allowed.
    assert.deepEqual(await tcp(WORLD.one), { result: `tcp ::ffff:${WORLD.one}` });
    assert.deepEqual(await tcp(WORLD.two), { error: "ECONNREFUSED" });
  });

  test("the first policy cuts what was open before it, but for what it allows", async () => {
    await set();
    await resolve("one.test");
    await resolve("two.test");
    const kept = await network.sprite.get("open", { address: WORLD.one, port: 80 });
    const cut = await network.sprite.get("open", { address: WORLD.two, port: 80 });
    await set(allow("one.test"));
    assert.deepEqual(await network.sprite.ask("say", { connection: kept }), { result: `again ::ffff:${WORLD.one}` });
    assert.deepEqual(await network.sprite.ask("say", { connection: cut }), { error: "closed" });
  });

  test("deny-all lets nothing through; no rules lift it", async () => {
    await set(deny("*"));
    assert.deepEqual(await resolve("one.test"), refused);
    assert.deepEqual(await tcp(WORLD.one), { error: "ECONNREFUSED" });
    await set();
    assert.deepEqual(await resolve("one.test"), { result: [WORLD.one] });
    assert.deepEqual(await tcp(WORLD.two), { result: `tcp ::ffff:${WORLD.two}` });
  });

  test("when the resolver cannot be exchanged, nothing passes until it can", async () => {
    await set(allow("one.test"));
    await resolve("one.test");
    const broken = new NetworkPolicy({
      firewall: new Firewall(network.runner),
      resolver: { onEvent: () => {}, start: () => Promise.reject(new Error("as the test asked")) },
      refuser: { start: async () => {}, stop: () => {} },
      audit: { record: () => {} },
      mirror: join(network.directory, "mirror"),
      uptimeMs: () => 1,
    });
    await assert.rejects(broken.apply({ rules: [allow("one.test"), allow("two.test")] }), /as the test asked/);
    const waitMs = 500;
    const held = await Promise.all([
      ...[WORLD.one, WORLD.two].map((address) => network.sprite.ask("tcp", { address, port: 80, waitMs })),
      network.sprite.ask("resolve", { server: GATEWAY, name: "one.test", waitMs }),
    ]);
    for (const outcome of held) assert.ok("error" in outcome, JSON.stringify(outcome));
    await set(allow("two.test"));
    assert.deepEqual(await resolve("two.test"), { result: [WORLD.two] });
    assert.deepEqual(await tcp(WORLD.two), { result: `tcp ::ffff:${WORLD.two}` });
  });

  test("dnsmasq decides as the rules do", async () => {
    const names = fc.uniqueArray(anyName, { minLength: 10, maxLength: 10 });
    await fc.assert(
      fc.asyncProperty(anyRules, names, async (rules, some) => {
        await policy.apply({ rules });
        const compiled = compileRules(rules);
        for (const name of some) {
          const expected = verdictOf(compiled, name).action === "allow" ? { result: [WORLD.three] } : refused;
          assert.deepEqual(await resolve(name), expected, name);
        }
      }),
      { numRuns: 25 },
    );
  });

  test("decisions are told", () => {
    const seen = audited.map((entry) => JSON.stringify(entry));
    assert.ok(seen.includes('{"type":"lookup","action":"deny","name":"two.test","query":"A"}'), seen.join("\n"));
    assert.ok(seen.includes('{"type":"lookup","action":"allow","name":"a.two.test","query":"A","rule":"*.two.test"}'));
    assert.ok(seen.includes('{"type":"lookup","action":"deny","name":"other.one.test","query":"A","rule":"*.one.test"}'));
  });
});
