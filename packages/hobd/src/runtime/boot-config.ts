import { constants } from "node:fs";
import { open } from "node:fs/promises";
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
  // Over what is there: a VM that runs has the file open, and never sees it empty.
  const file = await open(path, constants.O_WRONLY | constants.O_CREAT, 0o600);
  try {
    await file.writeFile(Buffer.concat([text, Buffer.alloc(DISK_BYTES - text.length)]));
  } finally {
    await file.close();
  }
}

/**
 * A pilot that ends is started again in its VM, and reads from the disk who it is and where its storage lies: what `resumed`
 * told its predecessor is gone. So does a start from the disk, until the disk is written anew.
 */
export const rememberIdentity = (path: string, identity: Identity, storage: StorageAssignment): Promise<void> =>
  writeBootConfig(path, identity.pilotToken, identity, storage);
