import { execFileSync } from "node:child_process";
import { chownSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExecTarget } from "../../src/helper/index.ts";
import { waitFor } from "./helper.ts";

const BASE = 100_000;
const RANGE = 65_536;
const CGROUP_ROOT = "/sys/fs/cgroup/unified";
const PREFIX = "hob-container-";
const LEFTOVER = /^hob-container-(\d+)-/;

/**
 * A real container of crun, as the pilot makes them, but on the machine's own root file system (overlayfs) and without
 * network: own user, pid, mount, net, ipc and uts namespaces, a seccomp filter, a cgroup for what is executed in it.
 */
export interface TestContainer extends AsyncDisposable {
  readonly target: ExecTarget;
  readonly root: string;
  /** kills PID 1, and with it the container */
  stop(): void;
}

/** Why the container cannot run here, or undefined. */
export function containerUnavailable(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root";
  try {
    execFileSync("crun", ["--version"], { stdio: "pipe" });
    execFileSync("unshare", ["--version"], { stdio: "pipe" });
  } catch {
    return "needs crun and unshare";
  }
  return undefined;
}

const spec = (root: string) => ({
  ociVersion: "1.0.0",
  process: {
    terminal: false,
    user: { uid: 0, gid: 0 },
    args: ["sleep", "infinity"],
    env: ["PATH=/usr/bin:/bin"],
    cwd: "/",
    noNewPrivileges: false,
    rlimits: [{ type: "RLIMIT_NOFILE", soft: 1000, hard: 2000 }],
    capabilities: Object.fromEntries(
      ["bounding", "effective", "permitted"].map((set) => [set, ["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_KILL"]]),
    ),
  },
  root: { path: root },
  hostname: "sprite",
  mounts: [
    { destination: "/proc", type: "proc", source: "proc" },
    { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755"] },
    {
      destination: "/dev/pts",
      type: "devpts",
      source: "devpts",
      options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
  ],
  linux: {
    uidMappings: [{ containerID: 0, hostID: BASE, size: RANGE }],
    gidMappings: [{ containerID: 0, hostID: BASE, size: RANGE }],
    namespaces: ["user", "pid", "network", "ipc", "uts", "mount"].map((type) => ({ type })),
    seccomp: { defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["syslog"], action: "SCMP_ACT_ERRNO", errnoRet: 95 }] },
  },
});

/** crun refuses the mixed cgroup layout that some machines have, so it sees a plain cgroup2 mount of its own. */
const CRUN_SCRIPT =
  'while umount -R /sys/fs/cgroup 2>/dev/null; do :; done; mount -t cgroup2 none /sys/fs/cgroup && exec crun --root "$1" --cgroup-manager=disabled run -d --pid-file "$2" -b "$3" c';

export async function startContainer(): Promise<TestContainer> {
  removeLeftovers();
  // The owner's process id is in the name: what it leaves when it is killed can be told from what is in use.
  const directory = mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`));
  const at = (name: string) => join(directory, name);
  for (const name of ["upper", "work", "root", "state"]) mkdirSync(at(name));
  writeRootFiles(at("upper"));
  chownSync(at("upper"), BASE, BASE);
  chownSync(at("work"), BASE, BASE);
  execFileSync("chmod", ["755", directory]);
  execFileSync("mount", ["-t", "overlay", "overlay", "-o", `lowerdir=/,upperdir=${at("upper")},workdir=${at("work")}`, at("root")]);
  writeFileSync(at("config.json"), JSON.stringify(spec(at("root"))));
  const log = at("log");
  try {
    execFileSync("unshare", ["-m", "sh", "-c", `(${CRUN_SCRIPT}) >"$4" 2>&1`, "sh", at("state"), at("pid"), directory, log], {
      stdio: "ignore",
    });
  } catch (error) {
    execFileSync("umount", [at("root")]);
    throw new Error(`crun: ${readFileSync(log, "utf8")}`, { cause: error });
  }
  const initPid = Number(readFileSync(at("pid"), "utf8"));
  const cgroupDir = makeCgroup(directory);
  const stop = () => killQuietly(initPid);
  return {
    target: { initPid, cgroupDir, seccompFile: join(at("state"), "c", "seccomp.bpf") },
    root: at("root"),
    stop,
    async [Symbol.asyncDispose]() {
      stop();
      await waitFor(() => tryTo(() => execFileSync("umount", [at("root")], { stdio: "pipe" })), "unmounted root");
      if (cgroupDir !== "") await waitFor(() => tryTo(() => rmdirSync(cgroupDir)), "empty cgroup");
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Containers of test processes that were killed: their mounts would stay for ever. */
function removeLeftovers(): void {
  for (const name of readdirSync(tmpdir())) {
    const [, owner] = LEFTOVER.exec(name) ?? [];
    if (owner === undefined || tryTo(() => process.kill(Number(owner), 0))) continue;
    const directory = join(tmpdir(), name);
    tryTo(() => endInit(Number(readFileSync(join(directory, "pid"), "utf8")), directory));
    tryTo(() => execFileSync("umount", ["--lazy", join(directory, "root")], { stdio: "pipe" }));
    tryTo(() => rmdirSync(join(CGROUP_ROOT, name)));
    // One that is still mounted is a view of this machine: nothing below it may be removed.
    if (!readFileSync("/proc/self/mountinfo", "utf8").includes(`${directory}/`)) rmSync(directory, { recursive: true, force: true });
  }
}

/** The number may be another process's by now. */
function endInit(pid: number, directory: string): void {
  const mounts = readFileSync(`/proc/${pid}/mountinfo`, "utf8").split("\n");
  const isOurs = mounts.some((line) => line.split(" ")[4] === "/" && line.includes(`upperdir=${directory}/upper`));
  if (isOurs) process.kill(pid, "SIGKILL");
}

function writeRootFiles(upper: string): void {
  mkdirSync(join(upper, "etc"));
  mkdirSync(join(upper, "home/sprite"), { recursive: true });
  writeFileSync(join(upper, "etc/passwd"), "root:x:0:0::/root:/bin/bash\nsprite:x:1000:1000::/home/sprite:/bin/bash\n");
  writeFileSync(
    join(upper, "etc/group"),
    `root:x:0:\nbroken\nsprite:x:1000:\n:::\nother:x:30:spriteX,xsprite\nwheel:x:27:someone,sprite\nhuge:x:4294967295:sprite\nlong:x:${"9".repeat(40)}:sprite\nlast:x:28:sprite`,
  );
  for (const name of ["etc", "home"]) chownSync(join(upper, name), BASE, BASE);
  chownSync(join(upper, "home/sprite"), BASE + 1000, BASE + 1000);
}

/** Empty where the machine has no cgroup2 tree at the usual place of the mixed layout. */
function makeCgroup(directory: string): string {
  const path = join(CGROUP_ROOT, directory.split("/").at(-1) ?? "hob");
  return tryTo(() => mkdirSync(path)) ? path : "";
}

function tryTo(action: () => unknown): boolean {
  try {
    action();
    return true;
  } catch {
    return false;
  }
}

function killQuietly(pid: number): void {
  tryTo(() => process.kill(pid, "SIGKILL"));
}
