import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type Identity, NO_POLICIES, type SpritePolicies } from "@hob/protocol";
import { ALL_CAPABILITIES, capabilityMask } from "../src/container/capabilities.ts";
import { type Confinement, confinementOf, UNCONFINED } from "../src/container/confinement.ts";
import { containerSpec } from "../src/container/spec.ts";
import { Policies } from "../src/policies/policies.ts";

const denyAll: SpritePolicies["network"] = { rules: [{ domain: "*", action: "deny" }] };
const at = (revision: number, more: Partial<SpritePolicies> = {}): SpritePolicies => ({ ...NO_POLICIES, revision, ...more });
const booted = (id: string, policies?: SpritePolicies): Identity => ({
  id,
  name: "web",
  organization: "",
  url: "",
  machineId: "0".repeat(32),
  pilotToken: "t".repeat(64),
  environment: {},
  ...(policies === undefined ? {} : { policies }),
});

/** Policies whose network and container are a list of what was done to them. */
function recorded(directory: string): { policies: Policies; calls: string[]; fail: { network: boolean } } {
  const calls: string[] = [];
  const fail = { network: false };
  const policies = new Policies({
    network: {
      apply: async ({ rules }, untouched) => {
        if (fail.network) throw new Error("as the test asked");
        calls.push(`network ${rules.length}${untouched ? " untouched" : ""}`);
      },
    },
    confine: async ({ noNewPrivileges }: Confinement) => void calls.push(`confine ${noNewPrivileges}`),
    file: join(directory, "policies.json"),
  });
  return { policies, calls, fail };
}

async function inDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "hob-policies-"));
  try {
    await body(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

describe("policies of a sprite", () => {
  test("are in force from the boot configuration, the container before the network", () =>
    inDirectory(async (directory) => {
      const { policies, calls } = recorded(directory);
      await policies.begin(booted("a", at(3, { network: denyAll, privileges: { noNewPrivileges: true } })), false);
      assert.deepEqual(calls, ["confine true", "network 1 untouched"]);
    }));

  test("cost a clone without policies nothing", () =>
    inDirectory(async (directory) => {
      const { policies, calls } = recorded(directory);
      await policies.begin(undefined, false);
      calls.length = 0;
      await policies.apply("a", at(0));
      await policies.apply("a", undefined);
      assert.deepEqual(calls, []);
    }));

  test("never go back to older ones, but for another sprite's", () =>
    inDirectory(async (directory) => {
      const { policies, calls } = recorded(directory);
      await policies.begin(booted("a", at(5, { network: denyAll })), false);
      calls.length = 0;
      await policies.apply("a", at(4));
      assert.deepEqual(calls, []);
      await policies.apply("b", at(0));
      assert.deepEqual(calls, ["confine false", "network 0"]);
    }));

  test("that failed are tried again when they come again", () =>
    inDirectory(async (directory) => {
      const { policies, calls, fail } = recorded(directory);
      await policies.begin(booted("a"), false);
      fail.network = true;
      await assert.rejects(policies.apply("a", at(1, { network: denyAll })));
      fail.network = false;
      calls.length = 0;
      await policies.apply("a", at(1, { network: denyAll }));
      assert.deepEqual(calls, ["confine false", "network 1"]);
    }));

  test("outlive the pilot, though the boot configuration has older ones or none", () =>
    inDirectory(async (directory) => {
      const first = recorded(directory);
      await first.policies.begin(undefined, false);
      await first.policies.apply("a", at(2, { network: denyAll }));
      for (const identity of [undefined, booted("a", at(1))]) {
        const next = recorded(directory);
        await next.policies.begin(identity, true);
        assert.deepEqual(next.calls, ["confine false", "network 1"]);
        await next.policies.apply("a", at(1));
        assert.equal(next.calls.length, 2);
      }
      const cold = recorded(directory);
      await cold.policies.begin(booted("a", at(7)), true);
      assert.deepEqual(cold.calls, ["confine false", "network 0"], "newer ones of the host count");
    }));
});

describe("confinement", () => {
  test("is none without a policy", () => {
    assert.deepEqual(confinementOf({ profile: "" }, {}), UNCONFINED);
    assert.deepEqual(confinementOf({ profile: "privileged" }, { memory: {} }), UNCONFINED);
    assert.equal(UNCONFINED.capabilities, undefined);
    assert.deepEqual(UNCONFINED.devices, ["/dev/fuse", "/dev/net/tun"]);
  });

  test("minimal leaves nothing, and what is said besides counts", () => {
    const minimal = confinementOf({ profile: "minimal" }, {});
    assert.deepEqual(minimal, { ...minimal, capabilities: [], noNewPrivileges: true, strictSeccomp: true, devices: [] });
    const softer = confinementOf({ profile: "minimal", noNewPrivileges: false, devices: ["/dev/fuse", "/dev/null"] }, {});
    assert.equal(softer.noNewPrivileges, false);
    assert.deepEqual(softer.devices, ["/dev/fuse"]);
  });

  test("limits are bytes and microseconds; autoscale is none", () => {
    const { memoryBytes, cpuQuotaUs } = confinementOf({}, { memory: { limit_mb: 512 }, cpu: { limit: 1.5 } });
    assert.deepEqual({ memoryBytes, cpuQuotaUs }, { memoryBytes: 536_870_912, cpuQuotaUs: 150_000 });
    assert.equal(confinementOf({}, { memory: { limit_mb: 512, autoscale: true } }).memoryBytes, undefined);
  });

  test("is in the container's configuration", () => {
    // biome-ignore lint/suspicious/noExplicitAny: the shape is that of the OCI runtime specification
    const spec = containerSpec(confinementOf({ profile: "standard", devices: [] }, { memory: { limit_mb: 64 }, cpu: { limit: 1 } })) as any;
    assert.ok(spec.process.capabilities.bounding.includes("CAP_SETUID"));
    assert.ok(!spec.process.capabilities.bounding.includes("CAP_SYS_ADMIN"));
    assert.deepEqual(spec.linux.resources.memory, { limit: 67_108_864 });
    assert.deepEqual(spec.linux.resources.cpu, { quota: 100_000, period: 100_000 });
    assert.ok(!spec.mounts.some(({ destination }: { destination: string }) => destination === "/dev/fuse"));
    assert.ok(spec.linux.seccomp.syscalls.some(({ names }: { names: string[] }) => names.includes("unshare")));
  });

  test("capabilities have the kernel's numbers", () => {
    assert.equal(capabilityMask([]), 0n);
    assert.equal(capabilityMask(["CAP_CHOWN", "CAP_SYS_ADMIN"]), 0x20_0001n);
    assert.equal(capabilityMask(ALL_CAPABILITIES), 0x1ff_ffff_ffffn);
    assert.throws(() => capabilityMask(["CAP_FLY"]));
  });
});
