import { setTimeout as sleep } from "node:timers/promises";
import { Random } from "../../../packages/storage/test/support/random.ts";
import { checkpoint } from "../../../test/e2e/support/checkpoints.ts";
import { outputOf } from "../../../test/e2e/support/exec.ts";
import { Final } from "./final.ts";
import { Kills } from "./kills.ts";
import { eventually, limited, Violation } from "./limits.ts";
import { differences, type Manifest } from "./manifest.ts";
import { type Attempt, Operations } from "./operations.ts";
import { type KillKind, nameOf, planOf, type Step } from "./plan.ts";
import { Report } from "./report.ts";
import { FOLDER, VICTIM, Victim } from "./victim.ts";
import { World } from "./world.ts";

/** Steps between looks at everything that the store and the sprite hold. */
const INSPECTION_EVERY = 8;

/** How a step has ended, as far as is known from outside. */
interface Ending {
  /** what the sprite held when it began */
  before: Manifest;
  /** something was killed, or the store did not answer as it should */
  isDisturbed: boolean;
  /** whether it had its effect is not known */
  isUncertain: boolean;
}

/** One real sprite on a real S3 server, to which a plan is done; after each step it must hold what it acknowledged. */
export class MachineTorture implements AsyncDisposable {
  readonly #world: World;
  readonly #victim: Victim;
  readonly #report = new Report();
  readonly #kills: Kills;
  readonly #operations: Operations;
  readonly #seed: number;
  #journal = "";

  private constructor(world: World, seed: number) {
    this.#world = world;
    this.#seed = seed;
    this.#victim = new Victim(world.daemon);
    this.#kills = new Kills(world, this.#report, VICTIM);
    this.#operations = new Operations({ world, victim: this.#victim, kills: this.#kills, report: this.#report });
  }

  static async start(seed: number): Promise<MachineTorture> {
    await using undo = new AsyncDisposableStack();
    const world = undo.use(await World.start());
    await world.daemon.sdk().createSprite(VICTIM);
    await outputOf(world.daemon.sdk().sprite(VICTIM), `mkdir ${FOLDER} && sync`);
    undo.move();
    return new MachineTorture(world, seed);
  }

  /** @throws Violation with the seed, the step and the folder of the logs when something is not what was acknowledged */
  async run(steps: number): Promise<Report> {
    let doing = "";
    try {
      for (const step of planOf(this.#seed, steps)) {
        doing = `operation ${step.number} of ${steps}: ${nameOf(step)}`;
        this.#say(`  ${step.number}/${steps} ${nameOf(step)}`);
        await this.#do(step);
        if (step.number % INSPECTION_EVERY === 0 && step.number < steps) await this.#inspect();
      }
      doing = "the end";
      await this.#inspect();
      await new Final(this.#world, this.#victim, this.#operations, this.#report).run();
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#say(`${doing}\n${error instanceof Error ? error.stack : error}`);
      const folder = this.#world.keepLogs(this.#journal);
      throw new Violation(`sprite, seed ${this.#seed}, ${doing}: ${message}\nlogs: ${folder}`, { cause: error });
    }
    this.#report.faults = this.#world.faults.injected;
    return this.#report;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#world[Symbol.asyncDispose]();
  }

  async #do(step: Step): Promise<void> {
    const { faults } = this.#world;
    const random = new Random(step.seed);
    const attempt: Attempt = { comment: `step ${step.number}` };
    if (step.kill !== undefined) await this.#prepare(step.kill.kind);
    const before = this.#victim.present;
    if (step.fault !== undefined) faults.plan(step.fault, step.seed);
    const isDisturbed = step.kill !== undefined || faults.isDisturbing;
    const killed = this.#killLater(step);
    killed.catch(() => {});
    const failure = await this.#operations.run(step.operation, random, attempt).then(
      () => undefined,
      (error: Error) => error,
    );
    await limited(`kill of the ${step.kill?.kind}`, killed);
    if (failure !== undefined) {
      if (failure instanceof Violation || !isDisturbed) throw failure;
      this.#report.uncertain++;
      this.#say(`    uncertain: ${failure.message.slice(0, 300)}`);
    }
    await this.#settle(step, attempt, { before, isDisturbed, isUncertain: failure !== undefined });
  }

  /** Once the store is well: this may start the daemon anew. */
  async #prepare(kind: KillKind): Promise<void> {
    if (kind === "pilot") this.#world.faults.close();
    await limited("preparation of the kill", this.#kills.prepare(kind));
  }

  async #killLater({ kill, seed }: Step): Promise<void> {
    if (kill === undefined) return;
    await sleep(kill.afterMs);
    await this.#kills.kill(kill.kind, new Random(seed + 1));
  }

  /** Finds out what a step that was cut off has done, and requires everything else to be as it was. */
  async #settle(step: Step, attempt: Attempt, state: Ending): Promise<void> {
    const { isUncertain } = state;
    const victim = this.#victim;
    // Where nothing was killed and the store is well, nothing may fail once.
    const ask: typeof eventually = state.isDisturbed ? eventually : (_, work) => work();
    // Pilots bring to an end what was begun. They do one thing after the other, so what is asked for now comes after it.
    const goesOn = isUncertain && step.kill?.kind !== "vmm" && step.kill?.kind !== "pilot";
    const isOrdered = attempt.target !== undefined || attempt.deleted !== undefined || attempt.isCheckpoint;
    if (goesOn && isOrdered) await ask("checkpoint after what was cut off", () => checkpoint(victim.sprite, `after ${attempt.comment}`));
    if (isUncertain && attempt.fork !== undefined) await this.#settleFork(attempt.fork);
    const found = await ask("manifest", () => victim.read());
    const mayBeLost = step.kill?.kind === "vmm" || (isUncertain && attempt.isWrite);
    const wasRestored = isUncertain && attempt.target !== undefined && differences(attempt.target, found).length === 0;
    const expected = wasRestored ? (attempt.target as Manifest) : victim.present;
    victim.require(expected, found, `the sprite after ${nameOf(step)}`, mayBeLost ? victim.unflushed : undefined);
    victim.present = found;
    this.#report.verified++;
    if (step.kill?.kind === "vmm") victim.noteFlushed();
    this.#settleList(attempt, { ...state, after: found }, await ask("list of checkpoints", () => victim.listed()));
  }

  async #settleFork(fork: NonNullable<Attempt["fork"]>): Promise<void> {
    const status = await eventually("look for a fork that was cut off", async () => {
      const response = await this.#world.daemon.fetch(`/v1/sprites/${fork.name}`);
      await response.text();
      if (response.status !== 200 && response.status !== 404) throw new Error(`status ${response.status}`);
      return response.status;
    });
    if (status === 200) await this.#operations.endFork(fork);
  }

  /** Every acknowledged checkpoint is listed, and no other but one whose making was cut off. */
  #settleList(attempt: Attempt, state: Ending & { after: Manifest }, listed: ReadonlyMap<string, string>): void {
    const { checkpoints } = this.#victim;
    for (const [id, comment] of listed) {
      if (checkpoints.has(id)) continue;
      if (state.isUncertain && comment === attempt.comment) checkpoints.set(id, state.before);
      else if (state.isUncertain && comment === `after ${attempt.comment}`) checkpoints.set(id, state.after);
      else throw new Violation(`checkpoint ${id} (${comment}) is listed, and nobody made it`);
    }
    for (const id of checkpoints.keys()) {
      if (listed.has(id)) continue;
      if (!(state.isUncertain && id === attempt.deleted)) throw new Violation(`checkpoint ${id} was acknowledged and is not listed`);
      checkpoints.delete(id);
    }
  }

  /** The store is whole, and the newest checkpoints are, as they are mounted in the sprite. */
  async #inspect(): Promise<void> {
    const victim = this.#victim;
    this.#world.faults.close();
    await eventually("fsck", () => this.#operations.requireNoDamage());
    for (const id of [...victim.checkpoints.keys()].slice(-3)) {
      const found = await eventually(`manifest of the mounted ${id}`, () => victim.readMounted(id));
      victim.require(victim.checkpoints.get(id) ?? new Map(), found, `checkpoint ${id} as it is mounted`);
      this.#report.verified++;
    }
  }

  /** A target holds a whole script. */
  #say(text: string): void {
    const line = text.replace(/\?cmd=[^ )]*/g, "?…");
    console.log(line);
    this.#journal += `${new Date().toISOString()} ${line}\n`;
  }
}
