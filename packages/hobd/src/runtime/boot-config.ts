import { writeFile } from "node:fs/promises";
import { HobError, type Identity, type StorageAssignment } from "@hob/protocol";
import { GUEST_NETWORK } from "../vmm/qemu/arguments.ts";

/** Size of the disk; part of what a saved VM fits. */
const DISK_BYTES = 256 * 1024;

/** Writes the disk from which a booting pilot learns its token, its network and, unless it becomes a template, who it is. */
export async function writeBootConfig(
  path: string,
  pilotToken: string,
  identity: Identity | undefined,
  storage?: StorageAssignment,
): Promise<void> {
  const { device, address, prefixLength, gateway, dns, pilotPort } = GUEST_NETWORK;
  const config = {
    pilotToken,
    identity,
    storage,
    network: { device, address, prefixLength, gateway, dns: [dns], mtu: 1500 },
    listen: { host: address, port: pilotPort },
  };
  const text = Buffer.from(JSON.stringify(config));
  if (text.length >= DISK_BYTES)
    throw new HobError("invalid_request", `write boot configuration: ${text.length} bytes, ${DISK_BYTES} are possible`);
  await writeFile(path, Buffer.concat([text, Buffer.alloc(DISK_BYTES - text.length)]), { mode: 0o600 });
}
