import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, test } from "node:test";
import { errorBody } from "../../client/test/support/test-daemon.ts";
import { startHob } from "./support/run-hob.ts";

const { daemon, home } = await startHob();
beforeEach(() => {
  daemon.requests.length = 0;
  daemon.faults = { answer: { status: 204, body: "" } };
});

const hob = (...args: string[]) => home.run(["policy", ...args]);
const answer = (value: unknown) => {
  daemon.faults = { answer: { status: 200, body: typeof value === "string" ? value : JSON.stringify(value) } };
};
const sent = () => daemon.requests.map(({ method, url, body }) => [method, url.pathname, ...(body === "" ? [] : [JSON.parse(body)])]);

describe("hob policy network", () => {
  const post = (rules: object[]) => [["POST", "/v1/sprites/web/policy/network", { rules }]];

  for (const [args, rules] of [
    [
      ["--allow", "a.test", "--allow", "*.b.test", "--deny", "c.b.test"],
      [
        { domain: "a.test", action: "allow" },
        { domain: "*.b.test", action: "allow" },
        { domain: "c.b.test", action: "deny" },
      ],
    ],
    [
      ["--defaults", "--deny", "github.com"],
      [{ include: "defaults" }, { domain: "github.com", action: "deny" }],
    ],
    [
      ["--deny", "a.test"],
      [
        { domain: "a.test", action: "deny" },
        { domain: "*", action: "allow" },
      ],
    ],
    [["--deny-all"], [{ domain: "*", action: "deny" }]],
    [["--unrestricted"], []],
  ] as const) {
    test(`set ${args.join(" ")}`, async () => {
      const { status, stderr, stdout } = await hob("network", "set", "web", ...args);
      assert.equal(status, 0, stderr);
      assert.deepEqual(sent(), post([...rules]));
      assert.match(stdout.toString(), /^Set the network policy of web: /);
    });
  }

  test("set from a file and from standard input", async () => {
    const policy = { rules: [{ domain: "a.test", action: "allow" }] };
    const file = join(home.path, "policy.json");
    writeFileSync(file, JSON.stringify(policy));
    assert.equal((await hob("network", "set", "-s", "web", "--file", file)).status, 0);
    assert.equal((await home.run(["policy", "network", "set", "web", "--file", "-"], { input: JSON.stringify(policy) })).status, 0);
    assert.deepEqual(sent(), [...post(policy.rules), ...post(policy.rules)]);
  });

  test("set wants exactly one way to say it", async () => {
    for (const args of [
      [],
      ["--deny-all", "--unrestricted"],
      ["--allow", "a.test", "--file", "x"],
      ["--file", join(home.path, "nothing")],
    ]) {
      const { status, stderr } = await hob("network", "set", "web", ...args);
      assert.equal(status, 2, stderr);
    }
    assert.equal((await home.run(["policy", "network", "set", "web", "--file", "-"], { input: "{" })).status, 2);
    assert.deepEqual(sent(), []);
  });

  test("get shows a table, or the policy itself", async () => {
    answer({ rules: [{ include: "defaults" }, { domain: "*", action: "deny" }] });
    assert.equal((await hob("network", "get", "web")).stdout.toString(), "ACTION  DOMAIN\nallow   (defaults)\ndeny    *\n");
    const json = (await hob("network", "get", "web", "--json")).stdout.toString();
    assert.deepEqual(JSON.parse(json), { rules: [{ include: "defaults" }, { domain: "*", action: "deny" }] });
    answer({ rules: [] });
    assert.match((await hob("network", "get", "web")).stderr, /not restricted/);
  });

  test("a refusal of the server is shown", async () => {
    daemon.faults = { answer: { status: 400, body: errorBody("invalid_request", "invalid policy: rules.0.domain: not a domain name") } };
    const { status, stderr } = await hob("network", "set", "web", "--allow", "a b");
    assert.equal(status, 1);
    assert.match(stderr, /invalid policy: rules\.0\.domain/);
  });

  test("log shows decisions a line each, without what would reach the terminal", async () => {
    const time = "2026-01-01T00:00:00.000Z";
    const entries = [
      { time, type: "lookup", action: "deny", name: "bad\u001b[31m.test", query: "A" },
      { time, type: "lookup", action: "allow", name: "a.test", query: "AAAA", rule: "*" },
      { time, type: "packet", action: "deny", protocol: "tcp", address: "1.1.1.1", port: 443 },
      { time, type: "policy", count: 2 },
      { time, type: "suppressed", count: 7 },
    ];
    answer(`${entries.map((entry) => JSON.stringify(entry)).join("\n")}\n\n`);
    const { stdout, stderr, status } = await hob("network", "log", "web", "-n", "5");
    assert.equal(status, 0, stderr);
    assert.equal(
      stdout.toString(),
      [
        "denied  A bad?[31m.test no rule",
        "allowed AAAA a.test rule *",
        "blocked tcp 1.1.1.1 port 443",
        "policy changed, rules: 2",
        "and 7 more",
        "",
      ]
        .map((line) => (line === "" ? "" : `${time} ${line}`))
        .join("\n"),
    );
    assert.equal(daemon.requests[0]?.url.search, "?tail=5");
    const json = (await hob("network", "log", "web", "--json", "--follow")).stdout.toString();
    assert.deepEqual(
      json
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line)),
      entries,
    );
    assert.equal(daemon.requests[1]?.url.search, "?tail=100&follow=true");
  });
});

describe("hob policy privileges and resources", () => {
  test("set sends what was said and nothing else", async () => {
    assert.equal((await hob("privileges", "set", "web", "--profile", "minimal", "--no-new-privileges")).status, 0);
    assert.equal((await hob("privileges", "set", "web", "--device", "/dev/fuse")).status, 0);
    assert.equal((await hob("privileges", "set", "web", "--no-devices")).status, 0);
    assert.equal((await hob("resources", "set", "web", "--memory-mb", "512", "--autoscale")).status, 0);
    assert.equal((await hob("resources", "set", "web", "--cpus", "1.5")).status, 0);
    assert.deepEqual(sent(), [
      ["POST", "/v1/sprites/web/policy/privileges", { profile: "minimal", noNewPrivileges: true }],
      ["POST", "/v1/sprites/web/policy/privileges", { devices: ["/dev/fuse"] }],
      ["POST", "/v1/sprites/web/policy/privileges", { devices: [] }],
      ["POST", "/v1/sprites/web/policy/resources", { memory: { limit_mb: 512, autoscale: true } }],
      ["POST", "/v1/sprites/web/policy/resources", { cpu: { limit: 1.5 } }],
    ]);
  });

  test("get, reset, and what makes no sense", async () => {
    for (const kind of ["privileges", "resources"]) assert.equal((await hob(kind, "reset", "web")).status, 0);
    assert.deepEqual(sent(), [
      ["DELETE", "/v1/sprites/web/policy/privileges"],
      ["DELETE", "/v1/sprites/web/policy/resources"],
    ]);
    for (const args of [
      ["privileges", "set", "web"],
      ["resources", "set", "web"],
      ["resources", "set", "web", "--cpus", "many"],
      ["privileges", "get"],
    ]) {
      assert.equal((await hob(...args)).status, 2, args.join(" "));
    }
    answer({ profile: "standard", devices: [], noNewPrivileges: true });
    assert.equal(
      (await hob("privileges", "get", "web")).stdout.toString(),
      "profile            standard\ndevices            none\nno new privileges  yes\n",
    );
    answer({ memory: { limit_mb: 512 }, cpu: { limit: 1.5 } });
    assert.equal((await hob("resources", "get", "web")).stdout.toString(), "memory  512 MiB\ncpu     1.5 cores\n");
    answer({});
    assert.match((await hob("resources", "get", "web")).stderr, /No limits/);
    assert.equal((await hob("resources", "get", "web", "--json")).stdout.toString(), "{}\n");
  });
});
