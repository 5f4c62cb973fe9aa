import { copyFile, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openSqliteRegistry } from "@hob/hobd/registry/sqlite-registry.ts";
import type { Row } from "./stats.ts";
import { BenchDaemon, newIdentity } from "./subjects.ts";

const SPRITES = 100;
const OBSERVED_MS = 20_000;
/** clock ticks a second of proc_pid_stat(5), on every Linux that Node.js runs on */
const TICKS_PER_SECOND = 100;

/**
 * What a daemon takes that has nothing to do: 100 sprites sleep, nobody calls. One of them was a real one; the others
 * are rows like its row, with a save like its save, since making a hundred would take hours and measure the same.
 */
export async function benchSleeping(): Promise<Row[]> {
  let daemon = await BenchDaemon.start();
  try {
    await daemon.client.createSprite("sleeper");
    await daemon.request("POST", "/v1/sprites/sleeper/sleep");
    await daemon.pause();
    await multiply(daemon.home);
    daemon = await BenchDaemon.start(daemon.home);
    const { warm } = (await daemon.request("GET", "/v1/sprites?max_results=500")) as { warm: number };
    if (warm !== SPRITES) throw new Error(`${warm} of ${SPRITES} sprites sleep`);
    await sleep(5_000);
    const before = await cpuSeconds(daemon.pid);
    await sleep(OBSERVED_MS);
    const cpuPercent = ((await cpuSeconds(daemon.pid)) - before) / (OBSERVED_MS / 1_000) / 0.01;
    const resident = await daemon.residentMb();
    return [
      { what: `hobd with ${SPRITES} sleeping sprites, resident`, value: resident, unit: "MB", n: 1, budget: { kind: "value", limit: 120 } },
      { what: `hobd with ${SPRITES} sleeping sprites, CPU`, value: cpuPercent, unit: "%", n: 1, budget: { kind: "value", limit: 1 } },
    ];
  } finally {
    await daemon.stop();
  }
}

async function multiply(home: string): Promise<void> {
  await using registry = openSqliteRegistry(join(home, "hob.db"));
  const model = await registry.sprites.findByName("sleeper");
  if (model === undefined) throw new Error("the sprite to copy is gone");
  for (let i = 1; i < SPRITES; i++) {
    const { id, machineId, pilotToken } = newIdentity();
    await registry.sprites.insert({ ...model, id, machineId, pilotToken, name: `sleeper-${i}`, state: "creating" });
    await registry.sprites.move(id, "creating", "ready", Date.now());
    await mkdir(join(home, "sprites", id));
    for (const file of ["state.json", "devices.state"]) {
      await copyFile(join(home, "sprites", model.id, file), join(home, "sprites", id, file));
    }
  }
}

/** Fields 14 and 15 of the process; the name before them may contain anything but ends with the last parenthesis. */
async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
