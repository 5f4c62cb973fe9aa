import { randomBytes, randomUUID } from "node:crypto";
import type { MachineSpec } from "@hob/hobd";
import { type Identity, MACHINE_LIMITS } from "@hob/protocol";

export const MACHINE: MachineSpec = {
  cpus: MACHINE_LIMITS.cpus.default,
  ramMb: MACHINE_LIMITS.ramMb.default,
  storageGb: MACHINE_LIMITS.storageGb.default,
};

export const newIdentity = (): Identity => ({
  id: `sprite-${randomUUID()}`,
  name: "bench",
  organization: "hob",
  url: "http://bench.sprites.localhost",
  machineId: randomBytes(16).toString("hex"),
  pilotToken: randomBytes(32).toString("hex"),
  environment: {},
});

export async function timeMs(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}
