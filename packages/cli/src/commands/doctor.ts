import { userInfo } from "node:os";
import { delimiter } from "node:path";
import type { Command } from "commander";
import { type Cli, EXIT } from "../cli.ts";
import { type GlobalFlags, readDaemonRecord } from "../config.ts";
import type { Finding, Machine } from "../doctor/check.ts";
import { type Register, withExample } from "../program.ts";

interface DoctorFlags extends GlobalFlags {
  json?: boolean;
  listen?: string;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("doctor")
    .description("Check whether this machine can run sprites, and say what is missing")
    .option("--listen <host:port>", "address that the daemon will listen on (default: HOB_LISTEN, else 127.0.0.1:7788)")
    .option("--json", "print JSON");
  withExample(command, "hob doctor");
  command.action((_flags: DoctorFlags, self: Command) => doctor(cli, self.optsWithGlobals<DoctorFlags>()));
};

async function doctor(cli: Cli, flags: DoctorFlags): Promise<void> {
  const { examine } = await import("../doctor/examine.ts");
  const findings = await examine(await thisMachine(cli, flags));
  const failed = findings.filter((finding) => finding.level === "fail").length;
  if (failed > 0) cli.exitStatus = EXIT.failure;
  if (flags.json) return cli.printJson({ ok: failed === 0, findings });
  for (const finding of findings) printFinding(cli, finding);
  cli.print(failed === 0 ? "This machine can run sprites." : `${failed} ${failed === 1 ? "thing is" : "things are"} to be done first.`);
}

function printFinding(cli: Cli, { check, level, found, advice }: Finding): void {
  const { green, yellow, red, dim } = cli.style;
  const paint = { ok: green, warn: yellow, fail: red }[level];
  cli.print(`${paint(level.padEnd(5))} ${check.padEnd(20)}${found}`);
  if (advice !== undefined) cli.print(`${" ".repeat(26)}${dim("->")} ${advice}`);
}

async function thisMachine(cli: Cli, flags: DoctorFlags): Promise<Machine> {
  const [{ SystemCommandRunner }, { defaultCacheDir }, { loadConfig }, { findKvmProbe }] = await Promise.all([
    import("@hob/linux"),
    import("@hob/images"),
    import("@hob/hobd"),
    import("../doctor/kvm-probe.ts"),
  ]);
  const { home, listen } = loadConfig(cli.env, { home: flags.home, listen: flags.listen });
  const place = { home, cacheDir: defaultCacheDir(), runner: new SystemCommandRunner() };
  const probeKvm = await findKvmProbe(place);
  return {
    ...place,
    ...(probeKvm === undefined ? {} : { probeKvm }),
    // mkfs.erofs lies in a folder that ordinary users often lack in their PATH.
    path: [...(cli.env.PATH ?? "").split(delimiter).filter((folder) => folder !== ""), "/usr/sbin", "/sbin"],
    listen,
    daemonUrl: readDaemonRecord(home)?.url,
    userId: userInfo().uid,
    userName: userInfo().username,
    files: { kvm: "/dev/kvm", meminfo: "/proc/meminfo", subuid: "/etc/subuid", subgid: "/etc/subgid" },
  };
}
