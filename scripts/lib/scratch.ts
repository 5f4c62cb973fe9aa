import { execFileSync } from "node:child_process";
import { chmodSync, globSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { RuntimePaths } from "@hob/hobd/runtime/paths.ts";
import { defaultCacheDir } from "@hob/images";
import { type FoundProcess, isAlive, loopFilesBelow, mountsBelow, processesNaming } from "../../test/e2e/support/processes.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** For what is about to end anyway, and for what was killed. */
const PATIENCE_MS = 10_000;
const LOOK_MS = 50;

/** Where temporary files lie that shall outlive the run, such as the logs of what went wrong. */
export const lastingFolder = (): string => process.env.HOB_LASTING_TMPDIR ?? tmpdir();

/**
 * The folder for temporary files of one run and of all that it starts. By it everything of the run is found, also what was
 * started by a process that was killed: node:test runs no hook of a file that it ends, and a daemon's VMs outlive it.
 */
export class Scratch {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /**
   * From now on all temporary files of this process and of those that it starts lie in a folder of their own. When this process
   * ends, or is told to, nothing of the run stays.
   *
   * @param interrupt called at the first signal; default: the process ends. At the second it ends anyway.
   */
  static use(interrupt?: () => void): Scratch {
    const outside = tmpdir();
    // Short: paths of sockets below it end at 107 bytes, unix(7).
    const scratch = new Scratch(mkdtempSync(join(outside, "hob-")));
    // As the one that it stands for: tests run programs as other users, too.
    chmodSync(scratch.folder, 0o1777);
    process.env.HOB_LASTING_TMPDIR ??= outside;
    process.env.TMPDIR = scratch.folder;
    process.once("exit", () => {
      scratch.clear();
      rmSync(scratch.folder, { recursive: true, force: true });
    });
    let told = false;
    for (const signal of SIGNALS) {
      process.on(signal, () => {
        if (told || interrupt === undefined) process.exit(128 + constants.signals[signal]);
        told = true;
        interrupt();
      });
    }
    return scratch;
  }

  /** What still goes on of the run: processes, mounts, loop devices. Processes that are about to end are waited for. */
  running(): string[] {
    wait(() => this.#processes().length === 0);
    return [
      ...this.#processes().map(({ pid, commandLine }) => `process ${pid}: ${commandLine.slice(0, 200)}`),
      ...mountsBelow(this.folder).map((point) => `mount ${point}`),
      ...loopFilesBelow(this.folder).map((file) => `loop device on ${file}`),
    ];
  }

  /** Paths of what lies there. */
  files(): string[] {
    return readdirSync(this.folder).map((name) => join(this.folder, name));
  }

  /** Ends and removes all of it. @throws Error when something stays mounted: what is below is not ours to remove */
  clear(): void {
    wait(() => {
      const running = this.#processes();
      for (const { pid } of running) kill(pid);
      return running.length === 0;
    });
    for (const point of mountsBelow(this.folder).reverse()) run("umount", "--lazy", point);
    for (const file of loopFilesBelow(this.folder)) run("losetup", "--detach", ...devicesOn(file));
    for (const name of orphanedNamespaces()) run("ip", "netns", "del", name);
    const stay = mountsBelow(this.folder);
    if (stay.length > 0) throw new Error(`still mounted: ${stay.join(", ")}`);
    for (const path of [...this.#socketFolders(), ...this.files(), ...this.#caches()]) {
      rmSync(path, { recursive: true, force: true });
    }
  }

  /** Those that inherited the folder or are told of something in it. QEMU inherits nothing, and is told. */
  #processes(): FoundProcess[] {
    const named = [`${this.folder}/`, ...this.#socketFolders().map((path) => `${path}/`)].flatMap(processesNaming);
    const heirs = processesNaming("").filter(({ pid }) => environmentOf(pid).some((entry) => entry.startsWith(`TMPDIR=${this.folder}`)));
    return [...new Map([...named, ...heirs].map((one) => [one.pid, one])).values()];
  }

  /** Of the daemons whose homes are here. */
  #socketFolders(): string[] {
    const homes = globSync(join(this.folder, "{*,*/*}", "sprites")).map(dirname);
    return homes.map((home) => new RuntimePaths(home, join(home, "no-cache")).run);
  }

  /** Caches of a test's own, which lie beside the one that all share: see test/e2e/support/cache-copy.ts. */
  #caches(): string[] {
    return globSync(join(dirname(defaultCacheDir()), `hob-e2e-cache-${basename(this.folder)}-*`));
  }
}

/** Blocks: it is also used where a process ends. */
function wait(until: () => boolean): void {
  for (const deadline = performance.now() + PATIENCE_MS; !until() && performance.now() < deadline; ) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOOK_MS);
  }
}

/** The network namespaces of a test's own, see test/e2e/support/world.ts, whose test has ended. */
function orphanedNamespaces(): string[] {
  const names = globSync("/run/netns/hob[dw]*").map((path) => basename(path));
  return names.filter((name) => /^hob[dw]\d+$/.test(name) && !isAlive(Number(name.slice(4))));
}

const devicesOn = (file: string): string[] =>
  globSync("/sys/block/loop*/loop/backing_file")
    .filter((path) => readFileSync(path, "utf8").trim() === file)
    .map((path) => `/dev/${path.split("/")[3]}`);

function environmentOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
  } catch {
    // It has ended, or is another user's.
    return [];
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}

/** What it cannot do is seen by what is left. */
function run(program: string, ...args: string[]): void {
  try {
    execFileSync(program, args, { timeout: PATIENCE_MS, stdio: "ignore" });
  } catch {}
}
