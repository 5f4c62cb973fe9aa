import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SpritesClient } from "@fly/sprites";
import { bodyOf, TestDaemon } from "./support/test-daemon.ts";

const RULES = [
  { domain: "github.com", action: "allow" },
  { domain: "*.example.org", action: "allow" },
  { include: "defaults" },
  { domain: "*", action: "deny" },
];

async function withSprite(body: (daemon: TestDaemon) => Promise<void>): Promise<void> {
  await using daemon = await TestDaemon.start();
  assert.equal((await daemon.create("web")).status, 201);
  await body(daemon);
}

const route = (kind: string, name = "web") => `/v1/sprites/${name}/policy/${kind}`;
const post = (daemon: TestDaemon, kind: string, json: unknown) => daemon.fetch(route(kind), { method: "POST", json });

describe("policy routes", () => {
  test("begin empty", () =>
    withSprite(async (daemon) => {
      assert.deepEqual(await bodyOf(await daemon.fetch(route("network"))), { rules: [] });
      assert.deepEqual(await bodyOf(await daemon.fetch(route("privileges"))), {});
      assert.deepEqual(await bodyOf(await daemon.fetch(route("resources"))), {});
    }));

  test("keep what was set, tell the sprite, and answer 204 without a body", () =>
    withSprite(async (daemon) => {
      const set = await post(daemon, "network", { rules: RULES });
      assert.equal(set.status, 204);
      assert.equal(await set.text(), "");
      assert.deepEqual(await bodyOf(await daemon.fetch(route("network"))), { rules: RULES });
      assert.equal((await post(daemon, "privileges", { profile: "minimal", noNewPrivileges: true })).status, 204);
      assert.equal((await post(daemon, "resources", { memory: { limit_mb: 512, autoscale: true }, cpu: { limit: 1.5 } })).status, 204);
      assert.deepEqual(await bodyOf(await daemon.fetch(route("privileges"))), { profile: "minimal", noNewPrivileges: true });
      assert.deepEqual(await bodyOf(await daemon.fetch(route("resources"))), {
        memory: { limit_mb: 512, autoscale: true },
        cpu: { limit: 1.5 },
      });
      for (const kind of ["privileges", "resources"]) {
        assert.equal((await daemon.fetch(route(kind), { method: "DELETE" })).status, 204);
        assert.deepEqual(await bodyOf(await daemon.fetch(route(kind))), {});
      }
      assert.deepEqual(
        daemon.runtime.calls.filter((call) => call.startsWith("policies")),
        [1, 2, 3, 4, 5].map((revision) => `policies web ${revision} running`),
      );
    }));

  test("normalize names", () =>
    withSprite(async (daemon) => {
      const rules = ["GitHub.com.", "*.MÜNCHEN.example", "_dmarc.example.com"].map((domain) => ({ domain, action: "allow" }));
      assert.equal((await post(daemon, "network", { rules })).status, 204);
      const stored = await bodyOf(await daemon.fetch(route("network")));
      assert.deepEqual(
        stored.rules.map(({ domain }: { domain: string }) => domain),
        ["github.com", "*.xn--mnchen-3ya.example", "_dmarc.example.com"],
      );
    }));

  test("do not wake a sprite", () =>
    withSprite(async (daemon) => {
      const [id = ""] = daemon.runtime.statuses.keys();
      daemon.runtime.setStatus(id, "warm");
      assert.equal((await post(daemon, "network", { rules: RULES })).status, 204);
      assert.equal((await daemon.fetch(route("network"))).status, 200);
      assert.equal(daemon.runtime.status(id), "warm");
      assert.ok(!daemon.runtime.calls.some((call) => call.startsWith("endpoint")));
    }));

  test("say what is wrong with a policy, and change nothing", () =>
    withSprite(async (daemon) => {
      const bad: [kind: string, body: unknown][] = [
        ["network", {}],
        ["network", []],
        ["network", { rules: [{}] }],
        ["network", { rules: [{ domain: "a.test" }] }],
        ["network", { rules: [{ domain: "a.test", action: "drop" }] }],
        ["network", { rules: [{ domain: "a.test", action: "allow", include: "defaults" }] }],
        ["network", { rules: [{ include: "everything" }] }],
        ["network", { rules: [{ domain: "a.test", action: "allow", port: 80 }] }],
        [
          "network",
          {
            rules: [
              { domain: "a.test", action: "allow" },
              { domain: "A.test", action: "deny" },
            ],
          },
        ],
        ...[
          "",
          ".",
          "*.",
          "a..b",
          "-a",
          "a*",
          "*.*.a",
          "a.*.b",
          "**",
          "1.2.3.4",
          "::1",
          "a b",
          "a/b",
          "a#b",
          "http://a",
          "a\n",
          "%61.test",
          "１.2.3.4",
          "a".repeat(64),
          `${"a.".repeat(127)}a`,
        ].map((domain): [string, unknown] => ["network", { rules: [{ domain, action: "allow" }] }]),
        ["network", { rules: Array.from({ length: 1_001 }, (_, i) => ({ domain: `a${i}.test`, action: "allow" })) }],
        [
          "network",
          {
            rules: Array.from({ length: 500 }, (_, i) => ({
              domain: `${"a".repeat(60)}.${"b".repeat(60)}.${"c".repeat(60)}.a${i}.test`,
              action: "allow",
            })),
          },
        ],
        ["privileges", { profile: "root" }],
        ["privileges", { devices: ["/dev/sda"] }],
        ["privileges", { no_new_privileges: true }],
        ["resources", { memory: { limit_mb: 0 } }],
        ["resources", { memory: { limit_mb: 1.5 } }],
        ["resources", { cpu: { limit: 0 } }],
        ["resources", { cpu: { limit: "1" } }],
      ];
      for (const [kind, body] of bad) {
        const answer = await post(daemon, kind, body);
        assert.equal(answer.status, 400, JSON.stringify(body).slice(0, 200));
        const { error, message } = await bodyOf(answer);
        assert.equal(error, "invalid_request");
        assert.match(message, /^invalid policy: /);
      }
      assert.equal((await daemon.fetch(route("network"), { method: "POST", body: "{" })).status, 400);
      assert.deepEqual(await bodyOf(await daemon.fetch(route("network"))), { rules: [] });
      assert.deepEqual(
        daemon.runtime.calls.filter((call) => call.startsWith("policies")),
        [],
      );
    }));

  test("a policy that the sprite did not take is stored, and the answer says so", () =>
    withSprite(async (daemon) => {
      daemon.runtime.failPolicies = true;
      const answer = await post(daemon, "network", { rules: RULES });
      assert.equal(answer.status, 502);
      assert.match((await bodyOf(answer)).message, /it is stored, but the running sprite did not take it/);
      assert.deepEqual(await bodyOf(await daemon.fetch(route("network"))), { rules: RULES });
    }));

  test("other methods, other sprites and no token are refused; the log is the pilot's", () =>
    withSprite(async (daemon) => {
      assert.equal((await daemon.fetch(route("network"), { method: "DELETE" })).status, 405);
      assert.equal((await daemon.fetch(route("resources"), { method: "PUT" })).status, 405);
      assert.equal((await daemon.fetch(route("network", "nobody"))).status, 404);
      assert.equal((await daemon.fetch(route("network", "nobody"), { method: "POST", json: { rules: [] } })).status, 404);
      assert.equal((await daemon.fetch(route("network"), { headers: { Authorization: "" } })).status, 401);
      await daemon.fetch(route("network/log"));
      assert.deepEqual(
        daemon.pilot.seen.map(({ url }) => url),
        ["/v1/sprites/web/policy/network/log"],
      );
    }));

  test("the SDK's methods work", () =>
    withSprite(async (daemon) => {
      const sprite = new SpritesClient(daemon.token, { baseURL: daemon.url }).sprite("web");
      await sprite.updateNetworkPolicy({ rules: [{ domain: "a.test", action: "allow" }] });
      assert.deepEqual(await sprite.getNetworkPolicy(), { rules: [{ domain: "a.test", action: "allow" }] });
      await assert.rejects(sprite.updateNetworkPolicy({ rules: [{ domain: "a b", action: "allow" }] }), /Invalid policy/);
      await sprite.updatePrivilegesPolicy({ profile: "", devices: ["/dev/fuse", "/dev/null"] });
      assert.deepEqual(await sprite.getPrivilegesPolicy(), { profile: "", devices: ["/dev/fuse", "/dev/null"] });
      await sprite.deletePrivilegesPolicy();
      await sprite.updateResourcesPolicy({ memory: { limitMB: 512, autoscale: true } });
      assert.deepEqual(await sprite.getResourcesPolicy(), { memory: { limitMB: 512, autoscale: true } });
      await sprite.deleteResourcesPolicy();
      assert.deepEqual(await sprite.getResourcesPolicy(), { memory: undefined });
    }));
});
