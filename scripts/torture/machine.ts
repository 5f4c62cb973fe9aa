import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Sprite } from "@fly/sprites";
import { Random } from "../../packages/storage/test/support/random.ts";
import { outputOf } from "../../test/e2e/support/exec.ts";
import { TestDaemon } from "../../test/e2e/support/test-daemon.ts";

const NAME = "victim";
const FOLDER = "/home/sprite/torture";
const FILES = 6;
const FILE_BYTES_MAX = 200_000;

export interface MachineReport {
  operations: Record<string, number>;
  kills: number;
  /** states that were compared with what was recorded */
  verified: number;
}

/** One real sprite, and what it should hold: after each operation, and for each checkpoint, the hashes of its files. */
export class MachineTorture implements AsyncDisposable {
  readonly #daemon: TestDaemon;
  readonly #random: Random;
  readonly #checkpoints = new Map<string, string>();
  readonly #report: MachineReport = { operations: {}, kills: 0, verified: 0 };
  #present = "";

  private constructor(daemon: TestDaemon, seed: number) {
    this.#daemon = daemon;
    this.#random = new Random(seed);
  }

  static async start(seed: number): Promise<MachineTorture> {
    const daemon = await TestDaemon.start();
    await daemon.sdk().createSprite(NAME);
    await outputOf(daemon.sdk().sprite(NAME), `mkdir ${FOLDER} && sync`);
    return new MachineTorture(daemon, seed);
  }

  /** @throws AssertionError when something is not what was acknowledged */
  async run(operations: number): Promise<MachineReport> {
    const kinds: Record<string, () => Promise<void>> = {
      write: () => this.#write(),
      overwrite: () => this.#write(),
      checkpoint: () => this.#checkpoint(),
      restore: () => this.#restore(),
      deleteCheckpoint: () => this.#deleteCheckpoint(),
      fork: () => this.#fork(),
      sync: () => this.#post(`/v1/sprites/${NAME}/sync`),
      collectGarbage: () => this.#post("/v1/storage/gc", { grace_seconds: 3_600 }),
      killVmm: () => this.#killVmm(),
      killVmmUnderCheckpoint: () => this.#killDuring(() => this.#sprite.createCheckpoint("cut off")),
      killDaemon: () => this.#killDaemon(),
    };
    for (let i = 0; i < operations; i++) {
      const kind = this.#random.pick(Object.keys(kinds));
      this.#report.operations[kind] = (this.#report.operations[kind] ?? 0) + 1;
      console.log(`  ${i + 1}/${operations} ${kind}`);
      await kinds[kind]?.();
      await this.#verify(this.#present, kind);
    }
    await this.#finish();
    return this.#report;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Also checks that no process, mount or folder is left.
    await this.#daemon[Symbol.asyncDispose]();
  }

  get #sprite(): Sprite {
    return this.#daemon.sdk().sprite(NAME);
  }

  #manifest(sprite = this.#sprite): Promise<string> {
    return outputOf(sprite, `cd ${FOLDER} && for f in *; do [ ! -f "$f" ] || sha256sum "$f"; done`);
  }

  async #verify(expected: string, after: string): Promise<void> {
    assert.equal(await this.#manifest(), expected, `after ${after}`);
    this.#report.verified++;
  }

  async #write(): Promise<void> {
    const count = 1 + this.#random.below(3);
    for (let i = 0; i < count; i++) {
      const data = Buffer.alloc(1 + this.#random.below(FILE_BYTES_MAX), String(this.#random.next()));
      await this.#sprite.filesystem("/").writeFile(`${FOLDER}/f${this.#random.below(FILES)}`, data);
    }
    await outputOf(this.#sprite, "sync");
    this.#present = await this.#manifest();
  }

  async #checkpoint(): Promise<void> {
    const known = new Set(await this.#ids());
    const stream = await this.#sprite.createCheckpoint(`with ${this.#present.split("\n").length} files`);
    let failure: string | undefined;
    await stream.processAll((message) => {
      if (message.type === "error") failure = message.error;
    });
    assert.equal(failure, undefined);
    const made = (await this.#ids()).find((id) => !known.has(id));
    assert.ok(made, "a checkpoint that was acknowledged is listed");
    this.#checkpoints.set(made, this.#present);
  }

  async #restore(): Promise<void> {
    const [id, manifest] = this.#anyCheckpoint() ?? [];
    if (id === undefined || manifest === undefined) return;
    await (await this.#sprite.restoreCheckpoint(id)).processAll(() => {});
    this.#present = manifest;
  }

  async #deleteCheckpoint(): Promise<void> {
    const [id] = this.#anyCheckpoint() ?? [];
    if (id === undefined || this.#checkpoints.size < 3) return;
    const response = await this.#daemon.fetch(`/v1/sprites/${NAME}/checkpoints/${id}`, { method: "DELETE" });
    assert.equal(response.status, 204);
    this.#checkpoints.delete(id);
  }

  async #fork(): Promise<void> {
    const [id, manifest] = this.#anyCheckpoint() ?? [];
    await this.#post(`/v1/sprites/${NAME}/fork`, { name: "fork", ...(id === undefined ? {} : { checkpoint: id }) });
    assert.equal(await this.#manifest(this.#daemon.sdk().sprite("fork")), manifest ?? this.#present, `fork of ${id ?? "the present"}`);
    this.#report.verified++;
    await this.#daemon.sdk().deleteSprite("fork");
  }

  async #killVmm(): Promise<void> {
    for (const { pid } of this.#daemon.vmProcesses("qemu")) process.kill(pid, "SIGKILL");
    this.#report.kills++;
  }

  /** What was cut off may have happened or not, but nothing else may have changed. */
  async #killDuring(work: () => Promise<unknown>): Promise<void> {
    const known = new Set(await this.#ids());
    const begun = work().catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, this.#random.below(400)));
    await this.#killVmm();
    await begun;
    for (const id of await this.#ids()) if (!known.has(id)) this.#checkpoints.set(id, this.#present);
  }

  async #killDaemon(): Promise<void> {
    await this.#daemon.kill9();
    await this.#daemon.restart();
    this.#report.kills++;
  }

  async #finish(): Promise<void> {
    for (const [id, manifest] of this.#checkpoints) {
      await (await this.#sprite.restoreCheckpoint(id)).processAll(() => {});
      await this.#verify(manifest, `the restore of ${id}`);
      this.#present = manifest;
    }
    await this.#post(`/v1/sprites/${NAME}/sync`);
    const response = await this.#daemon.fetch("/v1/storage/fsck", { method: "POST" });
    const { damage } = (await response.json()) as { damage: unknown[] };
    assert.deepEqual(damage, []);
    await this.#daemon.stop();
    rmSync(join(this.#daemon.home, "sprites"), { recursive: true });
    await this.#daemon.restart();
    await this.#verify(this.#present, "the loss of this machine's copy");
  }

  async #ids(): Promise<string[]> {
    return (await this.#sprite.listCheckpoints()).map(({ id }) => id).filter((id) => /^v\d+$/.test(id));
  }

  #anyCheckpoint(): [id: string, manifest: string] | undefined {
    return this.#checkpoints.size === 0 ? undefined : this.#random.pick([...this.#checkpoints]);
  }

  async #post(path: string, body?: object): Promise<void> {
    const response = await this.#daemon.fetch(path, { method: "POST", ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
    if (!response.ok) assert.fail(`POST ${path}: ${response.status} ${await response.text()}`);
  }
}
