import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { join } from "node:path";
import type { Check, Finding, Machine } from "./check.ts";

interface Program {
  name: string;
  /** Debian packages that bring it */
  packages: string;
  purpose: string;
  unlessRoot?: true;
}

const PROGRAMS: readonly Program[] = [
  { name: "qemu-system-x86_64", packages: "qemu-system-x86", purpose: "runs the microVMs" },
  { name: "passt", packages: "passt", purpose: "connects sprites to the network" },
  { name: "mkfs.erofs", packages: "erofs-utils", purpose: "makes images" },
  { name: "mmdebstrap", packages: "mmdebstrap", purpose: "makes images" },
  { name: "gcc", packages: "gcc libc6-dev", purpose: "builds the native helper" },
  { name: "strip", packages: "binutils", purpose: "makes images" },
  { name: "unshare", packages: "util-linux", purpose: "makes images without root", unlessRoot: true },
  { name: "newuidmap", packages: "uidmap", purpose: "makes images without root", unlessRoot: true },
];

const VERSION_TIMEOUT_MS = 10_000;
/** The oldest QEMU with all that Hob uses: migration capability x-ignore-shared together with -M microvm,acpi=on. */
const QEMU_MAJOR_MIN = 7;

/** The programs that Hob starts on the host. */
export const checkPrograms: Check = async (machine) => {
  const wanted = PROGRAMS.filter((program) => program.unlessRoot === undefined || machine.userId !== 0);
  return Promise.all(wanted.map((program) => checkProgram(program, machine)));
};

async function checkProgram(program: Program, machine: Machine): Promise<Finding> {
  const path = await findProgram(program.name, machine.path);
  if (path === undefined) {
    return {
      check: program.name,
      level: "fail",
      found: `not installed; it ${program.purpose}`,
      advice: `apt-get install ${program.packages}`,
    };
  }
  return program.name === "qemu-system-x86_64" ? checkQemu(path, machine) : { check: program.name, level: "ok", found: path };
}

async function checkQemu(path: string, { runner }: Machine): Promise<Finding> {
  const check = "qemu-system-x86_64";
  const advice = "apt-get install --reinstall qemu-system-x86";
  try {
    const { stdout } = await runner.run({ argv: [path, "--version"], timeoutMs: VERSION_TIMEOUT_MS });
    const version = /version (\d+)\.\d+(?:\.\d+)?/.exec(stdout);
    if (version === null) return { check, level: "fail", found: `${path} does not tell its version`, advice };
    const found = `${path}, ${version[0]}`;
    if (Number(version[1]) >= QEMU_MAJOR_MIN) return { check, level: "ok", found };
    return {
      check,
      level: "fail",
      found: `${found} is too old`,
      advice: `QEMU ${QEMU_MAJOR_MIN} or newer is needed: Debian 12, Ubuntu 24.04`,
    };
  } catch (thrown) {
    return { check, level: "fail", found: (thrown as Error).message, advice };
  }
}

async function findProgram(name: string, path: readonly string[]): Promise<string | undefined> {
  for (const folder of path) {
    const candidate = join(folder, name);
    const found = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return candidate;
  }
  return undefined;
}
