import { chown, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { HobError } from "@hob/protocol";
import { removeCgroups } from "../container/cgroups.ts";
import { ID_MAP, SPRITE_USER } from "../container/ids.ts";
import { defaultEnvironment, type ExecContainer } from "../exec/index.ts";
import type { ExecTarget, HelperClient, HelperProcess, OutputSink, ProcessExit } from "../helper/index.ts";
import type { ServiceDefinition } from "./definition.ts";

/** What runs for a service: its main process, and whatever that starts. */
export interface ServiceProcess {
  /** of the main process inside the sprite; undefined if it has ended meanwhile */
  readonly pid: number | undefined;
  /** settles when the main process has ended, its output is delivered and nothing that it started runs on; never rejects */
  readonly exited: Promise<ProcessExit>;
  /** delivers output from now on */
  start(output: OutputSink): void;
  /** to the main process's group */
  signal(number: number): void;
  /** ends all of it at once */
  kill(): void;
  /** stops and goes on reading what it writes */
  pause(): void;
  resume(): void;
}

export interface ServiceLauncher {
  /** Starts it, its output held back. @throws HobError when it cannot be tried; a program that cannot be run ends with 126 or 127 instead */
  launch(definition: ServiceDefinition): Promise<ServiceProcess>;
}

export interface ContainerLauncherParts {
  readonly helper: Pick<HelperClient, "exec" | "killCgroup">;
  readonly container: ExecContainer;
  /** the sprite's own variables, under those of the service */
  readonly environment: () => Readonly<Record<string, string>>;
}

const SIGKILL = 9;
/** The connection to a process was lost, so its exit status is not known. */
const LOST_EXIT_CODE = 255;

/**
 * Starts services in the inner container, each in a cgroup of its own below the container's: whatever a service starts
 * ends with it, also what made itself a daemon. cgroups(7)
 */
export class ContainerLauncher implements ServiceLauncher {
  readonly #parts: ContainerLauncherParts;

  constructor(parts: ContainerLauncherParts) {
    this.#parts = parts;
  }

  async launch(definition: ServiceDefinition): Promise<ServiceProcess> {
    const { helper, container } = this.#parts;
    if (container.state() !== "running")
      throw new HobError("container_stopped", `start service ${definition.name}: the container does not run`);
    const target = container.target();
    const cgroup = await this.#makeCgroup(target, definition.name);
    const process = await helper.exec({ ...this.#execSpec(definition), target: { ...target, cgroupDir: cgroup ?? target.cgroupDir } });
    return {
      pid: await innerPid(process.pid),
      exited: this.#end(process, cgroup),
      start: (output) => process.start(output),
      signal: (number) => process.signal(number),
      kill: () => void this.#kill(process, cgroup),
      pause: () => process.pause(),
      resume: () => process.resume(),
    };
  }

  #execSpec({ cmd, args, env, dir }: ServiceDefinition) {
    return {
      argv: [cmd, ...args],
      env: { ...defaultEnvironment(false), ...this.#parts.environment(), ...env },
      cwd: dir ?? SPRITE_USER.home,
      uid: SPRITE_USER.uid,
      gid: SPRITE_USER.gid,
      user: SPRITE_USER.name,
    };
  }

  /** It belongs to the container's root, as its parent does: a service may run containers of its own. */
  async #makeCgroup({ cgroupDir }: ExecTarget, name: string): Promise<string | undefined> {
    if (cgroupDir === "") return undefined;
    const cgroup = join(cgroupDir, `service-${name}`);
    await mkdir(cgroup).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
    for (const file of ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"]) {
      await chown(join(cgroup, file), ID_MAP.firstId, ID_MAP.firstId);
    }
    return cgroup;
  }

  async #end(process: HelperProcess, cgroup: string | undefined): Promise<ProcessExit> {
    process.end();
    const exit = await process.exited.catch(() => ({ code: LOST_EXIT_CODE, containerGone: false }));
    if (cgroup !== undefined) await this.#clear(cgroup).catch(() => {});
    return exit;
  }

  /** A cgroup with a process in it cannot be removed (EBUSY): that saves asking whether there is one. rmdir(2) */
  async #clear(cgroup: string): Promise<void> {
    await removeCgroups(cgroup).catch(async () => {
      await this.#parts.helper.killCgroup(cgroup);
      await removeCgroups(cgroup);
    });
  }

  async #kill(process: HelperProcess, cgroup: string | undefined): Promise<void> {
    process.signal(SIGKILL);
    if (cgroup !== undefined) await this.#parts.helper.killCgroup(cgroup).catch(() => {});
  }
}

/** A process's id in its own pid namespace: the last of NSpid, proc_pid_status(5). */
async function innerPid(pid: number): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  const ids = /^NSpid:\s+(.+)$/m.exec(status)?.[1]?.split(/\s+/);
  return ids === undefined ? undefined : Number(ids.at(-1));
}
