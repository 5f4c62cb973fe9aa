import { constants } from "node:fs";
import { access } from "node:fs/promises";
import type { Check } from "./check.ts";

const SLOW = "sprites run without it, in software emulation, 10 to 25 times slower";

/** Hardware virtualization: wanted, not needed. */
export const checkKvm: Check = async ({ files, probeKvm }) => {
  try {
    await access(files.kvm, constants.R_OK | constants.W_OK);
  } catch (thrown) {
    const missing = (thrown as NodeJS.ErrnoException).code === "ENOENT";
    const found = missing ? `${files.kvm} does not exist; ${SLOW}` : `${files.kvm} may not be opened; ${SLOW}`;
    const advice = missing
      ? "enable virtualization in the firmware, or in the hypervisor around this machine"
      : "join the group kvm: usermod -aG kvm $USER";
    return [{ check: "kvm", level: "warn", found, advice }];
  }
  if (probeKvm === undefined)
    return [{ check: "kvm", level: "ok", found: `${files.kvm} can be opened; 'hob serve' tries it with a small guest` }];
  const { usable, reason } = await probeKvm();
  return [usable ? { check: "kvm", level: "ok", found: reason } : { check: "kvm", level: "warn", found: `${reason}; ${SLOW}` }];
};
