import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { buildImages } from "@hob/images";
import { type Row, Series } from "./stats.ts";
import { askPilot, BenchDaemon, BenchRuntime, MACHINE, newIdentity, timeMs } from "./subjects.ts";

const run = promisify(execFile);

/**
 * Create to first exec output through API and SDK; beside it the floor (the VM restored, one request to its pilot) and a
 * container of the same root file system on the host. The three take turns, so that all see the same machine.
 */
export async function benchCreate(n: number): Promise<Row[]> {
  const [daemon, below] = [await BenchDaemon.start(), await BenchRuntime.start()];
  const podman = await PodmanContainer.prepare();
  const [full, create, floor, container] = [new Series(), new Series(), new Series(), new Series()];
  try {
    // The first of each pays for what all later ones share: the template, the page cache.
    for (let round = -1; round < n; round++) {
      const name = `create-${round + 1}`;
      let createdMs = 0;
      const fullMs = await timeMs(async () => {
        createdMs = await timeMs(() => daemon.client.createSprite(name));
        const { stdout } = await daemon.sprite(name).execFile("echo", ["hello"]);
        if (stdout !== "hello\n") throw new Error(`first exec printed ${JSON.stringify(stdout)}`);
      });
      await daemon.client.deleteSprite(name);
      const identity = newIdentity();
      const floorMs = await timeMs(async () => {
        await below.runtime.create(identity, MACHINE);
        await askPilot(await below.runtime.endpoint(identity, MACHINE), "GET", "/hob/ready");
      });
      await below.runtime.destroy(identity.id);
      const containerMs = podman === undefined ? undefined : await timeMs(() => podman.runOnce());
      if (round < 0) continue;
      full.add(fullMs);
      create.add(createdMs);
      floor.add(floorMs);
      if (containerMs !== undefined) container.add(containerMs);
    }
  } finally {
    await Promise.all([daemon.stop(), below.stop(), podman?.remove()]);
  }
  const beside = { what: "fork and one request, no API", value: floor.p50 };
  const rows: Row[] = [
    { what: "create → first exec output, p50", value: full.p50, unit: "ms", n, beside, budget: { kind: "value", limit: 1000 } },
    { what: "the same as a ratio to its floor", value: full.p50, unit: "ms", n, beside, budget: { kind: "ratio", limit: 2 } },
    { what: "create → first exec output, p95", value: full.percentile(95), unit: "ms", n },
    { what: "create alone, p50", value: create.p50, unit: "ms", n },
  ];
  rows.push(
    podman === undefined
      ? {
          what: "podman run --rm, same root file system",
          value: Number.NaN,
          unit: "ms",
          n: 0,
          note: "podman is not installed, or runs no container here",
        }
      : {
          what: "create → first exec output, p50",
          value: full.p50,
          unit: "ms",
          n,
          beside: { what: "podman run --rm, same root", value: container.p50 },
        },
  );
  return rows;
}

const PODMAN = ["podman", "run", "--rm", "--network=none", "--cgroups=disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"];
/** crun refuses a host that has both versions of cgroups mounted: it is shown the second only. */
const CGROUP2_ONLY = ["unshare", "--mount", "sh", "-c", 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"', "sh"];

/** `podman run --rm` over the sprites' own base image; the container and its image need no network and leave nothing. */
class PodmanContainer {
  readonly #directory: string;
  readonly #command: readonly string[];

  private constructor(directory: string, command: readonly string[]) {
    this.#directory = directory;
    this.#command = command;
  }

  /** undefined where podman is not installed or cannot run a container. */
  static async prepare(): Promise<PodmanContainer | undefined> {
    if (process.getuid?.() !== 0 || !(await succeeds("podman", ["--version"]))) return undefined;
    const { systemBase } = await buildImages();
    const directory = await mkdtemp(join(tmpdir(), "hob-podman-"));
    if (await succeeds("mount", ["-t", "erofs", "-o", "ro,loop", systemBase, directory])) {
      for (const prefix of [[], CGROUP2_ONLY]) {
        const [program = "", ...args] = [...prefix, ...PODMAN, "--rootfs", `${directory}:O`, "echo", "hello"];
        if (await succeeds(program, args)) return new PodmanContainer(directory, [program, ...args]);
      }
      await run("umount", [directory]);
    }
    await rm(directory, { recursive: true });
    return undefined;
  }

  async runOnce(): Promise<void> {
    const [program = "", ...args] = this.#command;
    await run(program, args);
  }

  async remove(): Promise<void> {
    await run("umount", [this.#directory]);
    await rm(this.#directory, { recursive: true });
  }
}

const succeeds = (program: string, args: string[]): Promise<boolean> =>
  run(program, args).then(
    () => true,
    () => false,
  );
