import type { Check, Finding, Machine } from "./check.ts";
import { checkFolders } from "./folders.ts";
import { checkKvm } from "./kvm.ts";
import { checkMemory } from "./memory.ts";
import { checkNode } from "./node.ts";
import { checkPort } from "./port.ts";
import { checkPrograms } from "./programs.ts";
import { checkStore } from "./store.ts";
import { checkSubids } from "./subids.ts";

const CHECKS: readonly [name: string, check: Check][] = [
  ["kvm", checkKvm],
  ["programs", checkPrograms],
  ["node", checkNode],
  ["memory", checkMemory],
  ["folders", checkFolders],
  ["port", checkPort],
  ["store", checkStore],
  ["subids", checkSubids],
];

/** Runs all checks. One that fails to run is a finding itself, and does not hide the others. */
export async function examine(machine: Machine): Promise<Finding[]> {
  const findings = await Promise.all(
    CHECKS.map(([name, check]) =>
      check(machine).catch((thrown: Error): Finding[] => [
        { check: name, level: "fail", found: `could not be checked: ${thrown.message}` },
      ]),
    ),
  );
  return findings.flat();
}
