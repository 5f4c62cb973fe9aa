import { execFile } from "node:child_process";
import { copyFile, mkdir, readFile, statfs } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { openSqliteRegistry } from "@hob/hobd/registry/sqlite-registry.ts";
import type { BenchContext, Part } from "../part.ts";
import { type Row, Series } from "../stats.ts";
import { BenchDaemon } from "../subjects/daemon.ts";
import { newIdentity, timeMs } from "../subjects/machine.ts";

const SPRITES = 100;
const REAL_QUICK = 10;
/** stays free on the disk of the host; a daemon that is short of room lets its sprites go cold */
const RESERVE_BYTES = 20e9;
const SETTLE_MS = 5_000;
/** clock ticks a second of proc_pid_stat(5), on every Linux that Node.js runs on */
const TICKS_PER_SECOND = 100;
const NAME = (i: number): string => `sleeper-${i}`;

/**
 * What sprites take that nobody uses: 100 sleep, nobody calls. As many as the disk has room for were real ones; the others
 * are rows like theirs with saves like theirs, which is what a daemon knows of a sprite that sleeps.
 */
export const sleepingPart: Part = {
  name: "sleeping",
  title: `${SPRITES} sleeping sprites`,
  boundMinutes: { quick: 6, full: 25 },
  async run(context) {
    let daemon = await BenchDaemon.start(context);
    await sleep(SETTLE_MS);
    const emptyMb = await daemon.residentMb();
    const made = await makeSleepers(context, daemon);
    await daemon.pause();
    context.progress(`${SPRITES - made.count} more as rows`);
    await multiply(daemon.home, made.count);
    daemon = await BenchDaemon.start(context, { home: daemon.home });
    const { sprites } = await daemon.request<{ sprites: { status: string }[] }>("GET", `/v1/sprites?max_results=${SPRITES}`);
    const asleep = sprites.filter(({ status }) => status === "warm").length;
    if (asleep !== SPRITES) throw new Error(`${asleep} of ${SPRITES} sprites sleep`);
    await sleep(SETTLE_MS);
    const idle = await observe(context, daemon);
    const wakeMs = await timeMs(() => daemon.sprite(NAME(0)).execFile("true"));
    return [...rowsOf(made, idle, emptyMb), { what: "wake of one of them → first exec output", value: wakeMs, unit: "ms", n: 1 }];
  },
};

interface Made {
  count: number;
  sleepMs: Series;
  diskMb: number;
}

async function makeSleepers(context: BenchContext, daemon: BenchDaemon): Promise<Made> {
  const sleepMs = new Series();
  const folder = join(daemon.home, "sprites");
  let count = 0;
  let wanted = context.quick ? REAL_QUICK : SPRITES;
  for (; count < wanted; count++) {
    context.progress(`sprite ${count + 1} of ${wanted}`);
    await daemon.create(NAME(count));
    sleepMs.add(await timeMs(() => daemon.request("POST", `/v1/sprites/${NAME(count)}/sleep`, { force: true })));
    if (count > 0) continue;
    const { bavail, bsize } = await statfs(folder);
    wanted = Math.max(1, Math.min(wanted, Math.floor((bavail * bsize - RESERVE_BYTES) / ((await diskMb(folder)) * 1e6))));
  }
  return { count, sleepMs, diskMb: (await diskMb(folder)) / count };
}

/** What a folder really takes: its files have holes, du(1). */
async function diskMb(folder: string): Promise<number> {
  const { stdout } = await promisify(execFile)("du", ["--summarize", "--block-size=1", folder], { timeout: 60_000 });
  return Number.parseInt(stdout, 10) / 1e6;
}

async function multiply(home: string, real: number): Promise<void> {
  await using registry = openSqliteRegistry(join(home, "hob.db"));
  const model = await registry.sprites.findByName(NAME(0));
  if (model === undefined) throw new Error("the sprite to copy is gone");
  for (let i = real; i < SPRITES; i++) {
    const { id, machineId, pilotToken } = newIdentity();
    await registry.sprites.insert({ ...model, id, machineId, pilotToken, name: NAME(i), state: "creating" });
    await registry.sprites.move(id, "creating", "ready", Date.now());
    await mkdir(join(home, "sprites", id));
    for (const file of ["state.json", "devices.state"]) {
      await copyFile(join(home, "sprites", model.id, file), join(home, "sprites", id, file));
    }
  }
}

interface Idle {
  cpuPercent: number;
  residentMb: number;
  vms: number;
}

async function observe(context: BenchContext, daemon: BenchDaemon): Promise<Idle> {
  const observedMs = context.quick ? 20_000 : 60_000;
  context.progress(`watching the daemon for ${observedMs / 1000} s`);
  const before = await cpuSeconds(daemon.pid);
  await sleep(observedMs);
  const cpuPercent = (((await cpuSeconds(daemon.pid)) - before) / (observedMs / 1_000)) * 100;
  return { cpuPercent, residentMb: await daemon.residentMb(), vms: daemon.vms().length };
}

function rowsOf({ count, sleepMs, diskMb }: Made, idle: Idle, emptyMb: number): Row[] {
  const name = `hobd with ${SPRITES} sleeping sprites`;
  const note = `${count} of them real`;
  return [
    {
      what: `${name}, resident`,
      value: idle.residentMb,
      unit: "MB",
      n: 1,
      beside: { what: "with none", value: emptyMb },
      budget: { kind: "value", limit: 120 },
      note,
    },
    { what: `${name}, CPU`, value: idle.cpuPercent, unit: "%", n: 1, budget: { kind: "value", limit: 1 }, note },
    { what: `${name}: virtual machines`, value: idle.vms, unit: "", n: 1, budget: { kind: "value", limit: 0 } },
    {
      what: "a sleeping sprite on the host's disk",
      value: diskMb,
      unit: "MB",
      n: count,
      note: "memory, devices, volume; all blocks that are taken",
    },
    { what: "request to sleep, p50", value: sleepMs.p50, unit: "ms", n: count },
  ];
}

/** Fields 14 and 15 of the process; the name before them may contain anything but ends with the last parenthesis. */
async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
