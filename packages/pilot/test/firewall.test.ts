import assert from "node:assert/strict";
import { test } from "node:test";
import type { Command } from "@hob/linux";
import { Firewall, firewallRules } from "../src/network/firewall.ts";

test("the host's addresses are closed once, and again when they have changed", async () => {
  const commands: Command[] = [];
  const firewall = new Firewall({
    run: async (command) => {
      commands.push(command);
      return { stdout: "", stderr: "" };
    },
  });
  for (const addresses of [["192.0.2.1", "192.0.2.2"], ["192.0.2.1", "192.0.2.2"], ["192.0.2.3"], []]) await firewall.closeHost(addresses);
  assert.deepEqual(
    commands.map(({ stdin }) => stdin),
    [
      "flush set inet hob host\nadd element inet hob host { 192.0.2.1, 192.0.2.2 }\n",
      "flush set inet hob host\nadd element inet hob host { 192.0.2.3 }\n",
      "flush set inet hob host\n",
    ],
  );
});

test("what failed is tried again", async () => {
  let runs = 0;
  const firewall = new Firewall({
    run: () => {
      runs++;
      return Promise.reject(new Error("no"));
    },
  });
  for (let i = 0; i < 2; i++) await assert.rejects(firewall.closeHost(["192.0.2.1"]));
  assert.equal(runs, 2);
});

test("the way to the host is closed before the uplink is opened", () => {
  const rules = firewallRules({ device: "eth0", address: "10.9.0.2", gateway: "10.9.0.1" });
  const open = rules.indexOf('oifname "eth0" accept');
  for (const closed of ["ip daddr @host reject", "ip daddr 10.9.0.1 drop", "ip daddr 169.254.0.0/16 reject"]) {
    assert.ok(rules.indexOf(closed) > 0 && rules.indexOf(closed) < open, closed);
  }
});
