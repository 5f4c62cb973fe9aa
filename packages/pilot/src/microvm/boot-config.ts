import { readFile } from "node:fs/promises";
import { HobError } from "@hob/protocol";
import { type BootConfig, bootConfig } from "../config.ts";

/** The smallest disk of the VM: JSON, padded with zero bytes. */
export const BOOT_CONFIG_DISK = "/dev/vdg";

export async function readBootConfig(path: string): Promise<BootConfig> {
  const bytes = await readFile(path);
  const end = bytes.indexOf(0);
  const text = bytes.toString("utf8", 0, end === -1 ? bytes.length : end);
  try {
    return bootConfig.parse(JSON.parse(text));
  } catch (cause) {
    throw new HobError("internal", `read boot configuration ${path}: it is not valid`, { cause });
  }
}
