import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { buildImages } from "@hob/images";
import type { BenchContext, Part } from "../part.ts";
import { notMeasured, type Row, Series } from "../stats.ts";
import { BenchDaemon } from "../subjects/daemon.ts";
import { MACHINE, newIdentity, timeMs } from "../subjects/machine.ts";
import { askPilot, BenchRuntime } from "../subjects/runtime.ts";

const run = promisify(execFile);

/**
 * Create to first exec output through API and SDK; beside it the floor (the VM restored, one request to its pilot) and a
 * container of the same root file system on the host. The three take turns, so that all see the same machine.
 */
export const createPart: Part = {
  name: "create",
  title: "create → first exec output",
  boundMinutes: { quick: 5, full: 10 },
  async run(context) {
    const n = context.quick ? 3 : 20;
    const [daemon, below] = [await BenchDaemon.start(context), await BenchRuntime.start(context)];
    const podman = await PodmanContainer.prepare(context);
    const series = { full: new Series(), create: new Series(), floor: new Series(), container: new Series() };
    // The first of each pays for what all later ones share: the template, the page cache.
    for (let round = -1; round < n; round++) {
      context.progress(round < 0 ? "warming up" : `create, ${round + 1} of ${n}`);
      const { fullMs, createdMs } = await createOnce(daemon, `create-${round + 1}`);
      const floorMs = await forkOnce(below);
      const containerMs = podman === undefined ? undefined : await timeMs(() => podman.runOnce());
      if (round < 0) continue;
      series.full.add(fullMs);
      series.create.add(createdMs);
      series.floor.add(floorMs);
      if (containerMs !== undefined) series.container.add(containerMs);
    }
    return rowsOf(n, series);
  },
};

async function createOnce(daemon: BenchDaemon, name: string): Promise<{ fullMs: number; createdMs: number }> {
  let createdMs = 0;
  const fullMs = await timeMs(async () => {
    createdMs = await timeMs(() => daemon.client.createSprite(name));
    const { stdout } = await daemon.sprite(name).execFile("echo", ["hello"]);
    if (stdout !== "hello\n") throw new Error(`first exec printed ${JSON.stringify(stdout)}`);
  });
  await daemon.client.deleteSprite(name);
  return { fullMs, createdMs };
}

async function forkOnce({ runtime }: BenchRuntime): Promise<number> {
  const identity = newIdentity();
  const floorMs = await timeMs(async () => {
    await runtime.create(identity, MACHINE);
    await askPilot(await runtime.endpoint(identity, MACHINE), "GET", "/hob/ready");
  });
  await runtime.destroy(identity.id);
  return floorMs;
}

function rowsOf(n: number, { full, create, floor, container }: Record<"full" | "create" | "floor" | "container", Series>): Row[] {
  const beside = { what: "fork and one request, no API", value: floor.p50 };
  const besidePodman = { what: "podman run --rm, same root", value: container.p50 };
  const why = "podman is not installed, or runs no container here";
  return [
    { what: "create → first exec output, p50", value: full.p50, unit: "ms", n, beside, budget: { kind: "value", limit: 1000 } },
    { what: "the same as a ratio to its floor", value: full.p50, unit: "ms", n, beside, budget: { kind: "ratio", limit: 2 } },
    { what: "create → first exec output, p95", value: full.percentile(95), unit: "ms", n },
    { what: "create alone, p50", value: create.p50, unit: "ms", n },
    container.count === 0
      ? notMeasured("podman run --rm, same root file system", "ms", why)
      : { what: "create → first exec output, p50", value: full.p50, unit: "ms", n, beside: besidePodman },
  ];
}

const PODMAN = ["podman", "run", "--rm", "--network=none", "--cgroups=disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"];
/** crun refuses a host that has both versions of cgroups mounted: it is shown the second only. */
const CGROUP2_ONLY = ["unshare", "--mount", "sh", "-c", 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"', "sh"];

/** `podman run --rm` over the sprites' own base image; the container and its image need no network and leave nothing. */
class PodmanContainer {
  readonly #command: readonly string[];

  private constructor(command: readonly string[]) {
    this.#command = command;
  }

  /** undefined where podman is not installed or cannot run a container. */
  static async prepare(context: BenchContext): Promise<PodmanContainer | undefined> {
    if (process.getuid?.() !== 0 || !(await succeeds("podman", ["--version"]))) return undefined;
    const { systemBase } = await buildImages();
    const directory = await mkdtemp(join(tmpdir(), "hob-podman-"));
    context.defer(() => rm(directory, { recursive: true }));
    if (!(await succeeds("mount", ["-t", "erofs", "-o", "ro,loop", systemBase, directory]))) return undefined;
    context.defer(() => run("umount", [directory]).then(() => {}));
    for (const prefix of [[], CGROUP2_ONLY]) {
      const [program = "", ...args] = [...prefix, ...PODMAN, "--rootfs", `${directory}:O`, "echo", "hello"];
      if (await succeeds(program, args)) return new PodmanContainer([program, ...args]);
    }
    return undefined;
  }

  async runOnce(): Promise<void> {
    const [program = "", ...args] = this.#command;
    await run(program, args);
  }
}

const succeeds = (program: string, args: string[]): Promise<boolean> =>
  run(program, args).then(
    () => true,
    () => false,
  );
