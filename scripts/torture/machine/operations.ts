import { createHash } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Random } from "../../../packages/storage/test/support/random.ts";
import { checkpoint, completed } from "../../../test/e2e/support/checkpoints.ts";
import { changesOf, placeOf } from "./changes.ts";
import type { Kills } from "./kills.ts";
import { eventually, limited, Violation } from "./limits.ts";
import { type Manifest, manifestScript, parseManifest } from "./manifest.ts";
import type { OperationKind } from "./plan.ts";
import type { Report } from "./report.ts";
import { AnswerError, FOLDER, VICTIM, type Victim } from "./victim.ts";
import type { World } from "./world.ts";

/** Below this none is deleted. */
const CHECKPOINTS_MIN = 3;
const CHECKPOINTS_MAX = 8;
const UPLOAD_BYTES_MAX = 200_000;

export interface OperationParts {
  world: World;
  victim: Victim;
  kills: Kills;
  report: Report;
}

/** What one operation may have done if nobody heard how it ended. */
export interface Attempt {
  comment: string;
  isCheckpoint?: boolean;
  /** of a restore: what is there if it took place */
  target?: Manifest;
  /** of a delete: the checkpoint that may be gone */
  deleted?: string;
  /** whether files may be anything that were touched since the last flush */
  isWrite?: boolean;
  fork?: { name: string; manifest: Manifest };
}

/** Each does one thing to the sprite and, once that is acknowledged, notes what must be there from now on. */
export class Operations {
  readonly #parts: OperationParts;

  constructor(parts: OperationParts) {
    this.#parts = parts;
  }

  run(wanted: OperationKind, random: Random, attempt: Attempt): Promise<void> {
    const kind = this.#possible(wanted);
    this.#parts.report.count(this.#parts.report.operations, kind);
    const all: Readonly<Record<OperationKind, () => Promise<void>>> = {
      rest: async () => {},
      write: () => this.#write(random, attempt),
      checkpoint: () => this.#checkpoint(attempt),
      restore: () => this.#restore(random, attempt),
      delete: () => this.#delete(random, attempt),
      fork: () => this.#fork(random, attempt),
      sync: () => this.sync(),
      collect: () => this.#collect(),
      restart: () => this.#restart(),
      loseHost: () => this.loseHost(random.chance(0.5)),
    };
    return all[kind]();
  }

  /** Without checkpoints one is taken; of too many one goes. */
  #possible(kind: OperationKind): OperationKind {
    const { size } = this.#parts.victim.checkpoints;
    if ((kind === "delete" && size < CHECKPOINTS_MIN) || (kind === "restore" && size === 0)) return "checkpoint";
    return kind === "checkpoint" && size >= CHECKPOINTS_MAX ? "delete" : kind;
  }

  async sync(): Promise<void> {
    await this.#parts.victim.call("POST", `/v1/sprites/${VICTIM}/sync`);
    this.#parts.victim.noteFlushed();
  }

  /** Everything of the sprites on this machine is gone, after all of it was brought into the store. */
  async loseHost(isOrderly: boolean): Promise<void> {
    const { world, kills } = this.#parts;
    await eventually("sync before the loss of the host", () => this.sync());
    if (isOrderly) await this.#stop();
    else await kills.killAll();
    rmSync(join(world.daemon.home, "sprites"), { recursive: true });
    await world.restartDaemon();
  }

  /** @throws Violation when a state in the store is not whole */
  async requireNoDamage(): Promise<void> {
    const { damage } = (await this.#parts.victim.call("POST", "/v1/storage/fsck")) as { damage: unknown[] };
    if (damage.length > 0) throw new Violation(`fsck finds damage: ${JSON.stringify(damage)}`);
  }

  async #write(random: Random, attempt: Attempt): Promise<void> {
    const { victim } = this.#parts;
    attempt.isWrite = true;
    const { lines, touched } = changesOf(random, 3 + random.below(6));
    const upload = random.chance(0.4) ? { ...placeOf(random), data: dataOf(random) } : undefined;
    const isFlushed = random.chance(0.7);
    for (const name of touched) victim.unflushed.add(name);
    const before = victim.present;
    const ending = `${isFlushed ? "sync\n" : ""}${manifestScript(FOLDER)}`;
    if (upload !== undefined) {
      victim.unflushed.add(upload.name);
      await victim.inside("changes", [...lines, upload.line].join("\n"));
      await limited("upload of a file", victim.sprite.filesystem("/").writeFile(`${FOLDER}/${upload.name}`, upload.data));
    }
    const found = parseManifest(await victim.inside("changes", upload === undefined ? [...lines, ending].join("\n") : ending));
    victim.require(before, found, "what was not touched", victim.unflushed);
    if (upload !== undefined) {
      const sum = createHash("sha256").update(upload.data).digest("hex");
      const entry = found.get(upload.name);
      if (!entry?.endsWith(` ${sum}`)) throw new Violation(`${upload.name} is not what was uploaded: ${entry}, not ${sum}`);
    }
    victim.present = found;
    if (isFlushed) victim.noteFlushed();
  }

  async #checkpoint(attempt: Attempt): Promise<void> {
    const { victim } = this.#parts;
    attempt.isCheckpoint = true;
    const id = await limited("checkpoint", checkpoint(victim.sprite, attempt.comment));
    victim.checkpoints.set(id, victim.present);
    // Freezing the file system has written everything out.
    victim.noteFlushed();
  }

  async #restore(random: Random, attempt: Attempt): Promise<void> {
    const { victim } = this.#parts;
    const [id, manifest] = random.pick([...victim.checkpoints]);
    attempt.target = manifest;
    await limited(`restore of ${id}`, completed(victim.sprite.restoreCheckpoint(id)));
    victim.present = manifest;
    victim.noteFlushed();
  }

  async #delete(random: Random, attempt: Attempt): Promise<void> {
    const { victim } = this.#parts;
    const id = random.pick([...victim.checkpoints.keys()]);
    attempt.deleted = id;
    await victim.call("DELETE", `/v1/sprites/${VICTIM}/checkpoints/${id}`);
    victim.checkpoints.delete(id);
  }

  async #fork(random: Random, attempt: Attempt): Promise<void> {
    const { victim } = this.#parts;
    const isOfPast = random.chance(0.7) && victim.checkpoints.size > 0;
    const [id, manifest] = isOfPast ? random.pick([...victim.checkpoints]) : [undefined, victim.present];
    const name = attempt.comment.replaceAll(" ", "-");
    attempt.fork = { name, manifest };
    await victim.call("POST", `/v1/sprites/${VICTIM}/fork`, { name, ...(id === undefined ? {} : { checkpoint: id }) });
    await this.endFork(attempt.fork);
  }

  /** Looks at a fork that is there, and removes it. */
  async endFork({ name, manifest }: NonNullable<Attempt["fork"]>): Promise<void> {
    const { victim, report } = this.#parts;
    victim.require(manifest, await eventually(`manifest of ${name}`, () => victim.readFork(name)), name);
    report.verified++;
    await eventually(`delete of ${name}`, () => this.#destroy(name));
  }

  async #destroy(name: string): Promise<void> {
    try {
      await this.#parts.victim.call("DELETE", `/v1/sprites/${name}`);
    } catch (error) {
      if (!(error instanceof AnswerError) || error.status !== 404) throw error;
    }
  }

  /**
   * Without a grace period nobody may be writing, not even with a request on its way: all who do are killed before. A saved
   * VM would remember chunks that are removed here.
   */
  async #collect(): Promise<void> {
    const { world, victim, kills } = this.#parts;
    await eventually("sync before gc", () => this.sync());
    await kills.killAll();
    await world.restartDaemon();
    await eventually("gc", () => victim.call("POST", "/v1/storage/gc", { grace_seconds: 0 }));
    await eventually("fsck after gc", () => this.requireNoDamage());
  }

  async #restart(): Promise<void> {
    await this.#stop();
    await this.#parts.world.restartDaemon();
  }

  async #stop(): Promise<void> {
    const status = await this.#parts.world.daemon.stop();
    if (status !== 0) throw new Violation(`hob serve ended with ${status} at SIGTERM`);
  }
}

const dataOf = (random: Random): Buffer => Buffer.from(Array.from({ length: 1 + random.below(UPLOAD_BYTES_MAX) }, () => random.below(256)));
