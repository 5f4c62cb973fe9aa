import { setTimeout as sleep } from "node:timers/promises";
import type { Sprite } from "@fly/sprites";
import { BLOCK_BYTES, type ObjectStore } from "@hob/storage";
import type { BenchContext } from "./part.ts";
import type { BenchDaemon } from "./subjects/daemon.ts";
import { timeMs } from "./subjects/machine.ts";
import {
  type ChangedBlock,
  changedPages,
  contentOf,
  grown,
  PAGE_BYTES,
  rootOfCheckpoint,
  type StoreContent,
  VolumeChange,
} from "./volume-states.ts";
import { type Workload, workloads } from "./workloads.ts";

const DURABLE_TIMEOUT_MS = 10 * 60_000;

export interface MeasuredWorkload {
  name: string;
  before: string | null;
  after: string | null;
  runMs: number;
  /** what the kernel wrote to the volume, journal and all */
  writtenBytes: number;
  /** what came into the store from the beginning of the run until its checkpoint was durable */
  uploaded: StoreContent;
  takenMs: number;
  durableMs: number;
  /** 4 KiB pages that differ at the end */
  changedBytes: number;
  /** blocks that differ at the end */
  changedBlockBytes: number;
  changes: ChangedBlock[];
}

/** Workloads in a sprite, one after the other; one that cannot be had here is left out, and `missing` says why. */
export async function measureWorkloads(
  context: BenchContext,
  daemon: BenchDaemon,
  sprite: Sprite,
  store: ObjectStore,
): Promise<{ measured: MeasuredWorkload[]; missing: Map<string, string> }> {
  const measured: MeasuredWorkload[] = [];
  const missing = new Map<string, string>();
  for (const workload of workloads(context.quick)) {
    context.progress(`preparing: ${workload.name}`);
    const reason = await workload.prepare(context, sprite).then(
      () => undefined,
      (error: Error) => error.message.split("\n").at(0) ?? "",
    );
    if (reason !== undefined) missing.set(workload.name, reason);
    else measured.push(await measure(context, daemon, sprite, store, workload));
  }
  return { measured, missing };
}

async function measure(
  context: BenchContext,
  daemon: BenchDaemon,
  sprite: Sprite,
  store: ObjectStore,
  workload: Workload,
): Promise<MeasuredWorkload> {
  const { id: spriteId } = await daemon.request<{ id: string }>("GET", `/v1/sprites/${sprite.name}`);
  const first = await checkpoint(daemon, sprite);
  const [contentBefore, writtenBefore] = [await contentOf(store), await writtenBytes(sprite)];
  context.progress(`running: ${workload.name}`);
  const runMs = await timeMs(() => workload.run(sprite));
  await sprite.execFile("sync");
  const writtenAfter = await writtenBytes(sprite);
  const second = await checkpoint(daemon, sprite);
  const uploaded = grown(contentBefore, await contentOf(store));
  const before = await rootOfCheckpoint(store, spriteId, first.id);
  const after = await rootOfCheckpoint(store, spriteId, second.id);
  const changes: ChangedBlock[] = [];
  let changedBytes = 0;
  for await (const change of new VolumeChange(store, before, after).blocks()) {
    changes.push(change);
    changedBytes += changedPages(change).length * PAGE_BYTES;
  }
  return {
    ...{ name: workload.name, before, after, runMs, writtenBytes: writtenAfter - writtenBefore, uploaded },
    ...{ takenMs: second.takenMs, durableMs: second.durableMs },
    ...{ changedBytes, changedBlockBytes: changes.length * BLOCK_BYTES, changes },
  };
}

async function checkpoint(daemon: BenchDaemon, { name }: Sprite): Promise<{ id: string; takenMs: number; durableMs: number }> {
  const path = `/v1/sprites/${name}`;
  const start = performance.now();
  const { id = "" } = await daemon.lastLine(`${path}/checkpoint`);
  const takenMs = performance.now() - start;
  const deadline = start + DURABLE_TIMEOUT_MS;
  while ((await daemon.request<{ durable?: boolean }>("GET", `${path}/checkpoints/${id}`)).durable !== true) {
    if (performance.now() > deadline) throw new Error(`checkpoint ${id} is not durable after ${DURABLE_TIMEOUT_MS / 60_000} minutes`);
    await sleep(100);
  }
  return { id, takenMs, durableMs: performance.now() - start };
}

/** Sectors written to the device of the volume, by the kernel's count (Documentation/admin-guide/iostats.rst, field 10). */
async function writtenBytes(sprite: Sprite): Promise<number> {
  const script = `awk -v "device=$(stat -c '%Hd %Ld' /var/lib/docker)" '$1 " " $2 == device { print $10 }' /proc/diskstats`;
  const sectors = Number(String((await sprite.execFile("sh", ["-c", script])).stdout).trim() || Number.NaN);
  if (Number.isNaN(sectors)) throw new Error("the kernel's count of what was written is not to be seen in the sprite");
  return sectors * 512;
}
