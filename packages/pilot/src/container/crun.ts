import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { CommandRunner } from "@hob/linux";
import { PATHS } from "../config.ts";
import type { Confinement } from "./confinement.ts";
import { CONTAINER_ID, containerSpec } from "./spec.ts";

const TIMEOUT_MS = 30_000;
const GLOBAL = ["crun", "--cgroup-manager=cgroupfs", `--root=${PATHS.crunState}`] as const;

/** crun(1), as far as the inner container needs it. */
export class Crun {
  readonly #runner: CommandRunner;

  constructor(runner: CommandRunner) {
    this.#runner = runner;
  }

  /** The bundle of the OCI runtime specification: config.json beside the root file system it names. It is read when the container starts. */
  async writeBundle(confinement?: Confinement): Promise<void> {
    await mkdir(PATHS.bundle, { recursive: true });
    await writeFile(join(PATHS.bundle, "config.json"), JSON.stringify(containerSpec(confinement)));
  }

  /** Creates and starts the container; returns the pid of its init in the root namespace. */
  async run(): Promise<number> {
    const pidFile = join(PATHS.runtime, "container.pid");
    const argv = [...GLOBAL, "run", "--detach", `--bundle=${PATHS.bundle}`, `--pid-file=${pidFile}`, CONTAINER_ID] as const;
    await this.#runner.run({ argv, timeoutMs: TIMEOUT_MS, outputFile: join(PATHS.runtime, "container.log") });
    return Number(await readFile(pidFile, "utf8"));
  }

  /** Removes what crun keeps of a container whose processes are gone; `crun delete` would be one more program to start. */
  async forget(): Promise<void> {
    await rm(join(PATHS.crunState, CONTAINER_ID), { recursive: true, force: true });
  }
}

/** The compiled filter that crun leaves in its state folder; sessions get the same. */
export const SECCOMP_FILE = join(PATHS.crunState, CONTAINER_ID, "seccomp.bpf");
