import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HobError } from "@hob/protocol";
import { type Confinement, CPU_PERIOD_US } from "./confinement.ts";

/**
 * Limits of a container's cgroup, cgroups(7), changed while it runs. The files belong to root outside of the sprite's
 * user namespace: the sprite can see its limits, and divide what they leave among groups of its own, but not raise them.
 * A cgroup that does not exist has nothing to limit; it is made with the limits of its container's configuration.
 */
export async function setLimits(cgroup: string, { memoryBytes, cpuQuotaUs }: Confinement): Promise<void> {
  try {
    await writeFile(join(cgroup, "memory.max"), memoryBytes === undefined ? "max" : String(memoryBytes));
    await writeFile(join(cgroup, "cpu.max"), `${cpuQuotaUs ?? "max"} ${CPU_PERIOD_US}`);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return;
    throw new HobError("internal", `set limits of ${cgroup}: ${(cause as Error).message}`, { cause });
  }
}

/** The same in config.json of a bundle, config-linux.md#control-groups of the OCI runtime specification. */
export const limitResources = ({ memoryBytes, cpuQuotaUs }: Confinement): object => ({
  ...(memoryBytes === undefined ? {} : { memory: { limit: memoryBytes } }),
  ...(cpuQuotaUs === undefined ? {} : { cpu: { quota: cpuQuotaUs, period: CPU_PERIOD_US } }),
});
