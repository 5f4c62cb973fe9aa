import { writeFile } from "node:fs/promises";
import type { CommandRunner } from "@hob/linux";
import type { BootConfig } from "../config.ts";

/** Brings up the VM's own network device with the addresses that the launcher chose, and the root namespace's resolver. */
export async function setUpUplink(runner: CommandRunner, network: BootConfig["network"]): Promise<void> {
  const { device, address, prefixLength, gateway, mtu, dns } = network;
  const batch = [
    "link set lo up",
    `addr replace ${address}/${prefixLength} dev ${device}`,
    `link set ${device} mtu ${mtu} up`,
    `route replace default via ${gateway} dev ${device}`,
  ].join("\n");
  await runner.run({ argv: ["ip", "-batch", "-"], stdin: batch, timeoutMs: 20_000 });
  await writeFile("/run/resolv.conf", dns.map((server) => `nameserver ${server}\n`).join(""));
}
