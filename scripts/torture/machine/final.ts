import { readdirSync } from "node:fs";
import { completed } from "../../../test/e2e/support/checkpoints.ts";
import { until } from "../../../test/e2e/support/wait.ts";
import { eventually, limited, Violation } from "./limits.ts";
import type { Operations } from "./operations.ts";
import type { Report } from "./report.ts";
import { VICTIM, type Victim } from "./victim.ts";
import type { World } from "./world.ts";

/** What the store keeps when all sprites are gone: when space was last reclaimed, docs/formats/storage.md */
const STAYS = /\/gc\.json$/;

/** The end: nothing is killed any more, so nothing may fail. Everything acknowledged comes back from the store alone; then nothing is left. */
export class Final {
  readonly #world: World;
  readonly #victim: Victim;
  readonly #operations: Operations;
  readonly #report: Report;

  constructor(world: World, victim: Victim, operations: Operations, report: Report) {
    this.#world = world;
    this.#victim = victim;
    this.#operations = operations;
    this.#report = report;
  }

  async run(): Promise<void> {
    const victim = this.#victim;
    await this.#operations.loseHost(true);
    await this.#verify("the sprite after the loss of the host");
    for (const [id, manifest] of victim.checkpoints) {
      await limited(`restore of ${id}`, completed(victim.sprite.restoreCheckpoint(id)));
      victim.present = manifest;
      await this.#verify(`the sprite after the restore of ${id}`);
    }
    await this.#operations.sync();
    const { code, stdout, stderr } = await this.#world.daemon.hob("fsck");
    if (code !== 0) throw new Violation(`hob fsck ends with ${code}: ${stdout}${stderr}`);
    await this.#leaveNothing();
  }

  async #verify(what: string): Promise<void> {
    const victim = this.#victim;
    victim.require(victim.present, await eventually("manifest", () => victim.read()), what);
    this.#report.verified++;
  }

  /** What is not of the home, World looks at when it is disposed of. */
  async #leaveNothing(): Promise<void> {
    const { daemon } = this.#world;
    await this.#victim.call("DELETE", `/v1/sprites/${VICTIM}`);
    await until("the sprite's files are gone", () => readdirSync(`${daemon.home}/sprites`).length === 0, 30_000);
    await this.#victim.call("POST", "/v1/storage/gc", { grace_seconds: 0 });
    const left = (await this.#world.keys()).filter((key) => !STAYS.test(key));
    if (left.length > 0) throw new Violation(`left in the store: ${left.join(", ")}`);
  }
}
