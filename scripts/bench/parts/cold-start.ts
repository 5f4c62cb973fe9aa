import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { StorageStatus } from "@hob/protocol";
import { OrgKeys, readHead } from "@hob/storage";
import { BLOCK_BYTES } from "@hob/storage/format/limits.ts";
import { openStore } from "@hob/storage/store/open-store.ts";
import { until } from "../../../test/e2e/support/wait.ts";
import type { BenchContext, Part } from "../part.ts";
import { Series } from "../stats.ts";
import { BenchDaemon } from "../subjects/daemon.ts";
import { timeMs } from "../subjects/machine.ts";

const NAME = "cold";
const PATH = `/v1/sprites/${NAME}`;

/** A sprite on a host that has nothing of it: time, bytes and requests until the first exec answers; beside a boot from the disk. */
export const coldStartPart: Part = {
  name: "cold-start",
  title: "start on an empty host",
  boundMinutes: { quick: 8, full: 20 },
  async run(context) {
    const [n, mb] = context.quick ? [1, 200] : [3, 1_000];
    const store = await mkdtemp(join(tmpdir(), "hob-bench-store-"));
    context.defer(() => rm(store, { recursive: true, force: true }));
    const storedMb = await writeSprite(context, store, mb);
    const [start, boot, later, exec] = [new Series(), new Series(), new Series(), new Series()];
    const fetched = { mb: new Series(), requests: new Series() };
    for (let round = 0; round < n; round++) {
      context.progress(`empty host, ${round + 1} of ${n}`);
      const daemon = await BenchDaemon.start(context, { store });
      // The template is the host's, not the sprite's: it is there before the sprite is asked for.
      await daemon.create(`warm-up-${round}`);
      start.add(await timeMs(() => daemon.sprite(NAME).execFile("true")));
      const { fetched_bytes, fetched_requests } = await daemon.request<StorageStatus>("GET", `${PATH}/storage`);
      fetched.mb.add(fetched_bytes / 1e6);
      fetched.requests.add(fetched_requests);
      exec.add(await timeMs(() => daemon.sprite(NAME).execFile("true")));
      later.add(await timeMs(() => daemon.sprite(NAME).execFile("sh", ["-c", "cat ~/data/1 > /dev/null"])));
      boot.add(await bootOnce(daemon, `warm-up-${round}`));
      await daemon.pause();
    }
    const atBoot = `boot of a sprite from this host's disk`;
    return [
      {
        what: `cold start on an empty host, ${mb} MB → first exec output, p50`,
        value: start.p50,
        unit: "ms",
        n,
        beside: { what: atBoot, value: boot.p50 },
      },
      {
        what: "the same beyond that boot",
        value: start.p50 - boot.p50,
        unit: "ms",
        n,
        budget: { kind: "value", limit: 2500 },
        note: "a sprite of the store starts as a fork of the template: no boot",
      },
      {
        what: "bytes fetched by then, p50",
        value: fetched.mb.p50,
        unit: "MB",
        n,
        beside: { what: "volume in the store", value: storedMb },
        budget: { kind: "ratio", limit: 0.05 },
      },
      { what: "requests by then, p50", value: fetched.requests.p50, unit: "", n, note: "ranges of packs" },
      {
        what: "read of a file of 10 MB from the store, p50",
        value: later.p50,
        unit: "ms",
        n,
        beside: { what: "exec true", value: exec.p50 },
      },
    ];
  },
};

/** @returns size of the volume in the store before compression */
async function writeSprite(context: BenchContext, store: string, mb: number): Promise<number> {
  const daemon = await BenchDaemon.start(context, { store });
  const sprite = await daemon.create(NAME);
  context.progress(`writing ${mb} MB and bringing it into the store`);
  for (let at = 0; at < mb; at += 100) {
    const files = Array.from({ length: 10 }, (_, i) => at / 10 + i + 1).join(" ");
    await sprite.execFile("sh", ["-c", `mkdir -p ~/data; for i in ${files}; do head -c 10000000 /dev/urandom > ~/data/$i; done`]);
    await daemon.request("POST", `${PATH}/sync`);
  }
  const { id } = await daemon.request<{ id: string }>("GET", PATH);
  await daemon.pause();
  const found = await readHead(await openStore(`dir:${store}`, {}), new OrgKeys("hob").sprite(id).head);
  return ((found?.head.storedBlocks ?? 0) * BLOCK_BYTES) / 1e6;
}

/** The VM ends without warning; the next request boots it from its disk. */
async function bootOnce(daemon: BenchDaemon, name: string): Promise<number> {
  const { id } = await daemon.request<{ id: string }>("GET", `/v1/sprites/${name}`);
  const folder = `/${id.replace(/^sprite-/, "").slice(0, 18)}/`;
  const vm = daemon.vms().find(({ commandLine }) => commandLine.includes(folder));
  if (vm === undefined) throw new Error(`no VM of ${name} runs`);
  process.kill(vm.pid, "SIGKILL");
  await until("the end of the VM is noticed", async () => {
    const { status } = await daemon.request<{ status: string }>("GET", `/v1/sprites/${name}`);
    return status !== "running";
  });
  return timeMs(() => daemon.sprite(name).execFile("true"));
}
