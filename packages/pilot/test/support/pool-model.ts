import { HobError } from "@hob/protocol";
import { Checkpoints } from "../../src/checkpoints/checkpoints.ts";
import type { CheckpointView, CheckpointVolume } from "../../src/checkpoints/parts.ts";
import { VolumeUpload } from "../../src/durability/volume-upload.ts";
import { Ledger, settle } from "../../src/volume/ledger.ts";
import type { StagedVolume, ThinVolume, TreeSource } from "../../src/volume/thin-volume.ts";
import { treeAt } from "../../src/volume/volume.ts";

/** What survives the death of the VM: thin devices and what is in them. The ledger is a real one, in a file. */
export class PoolModel {
  readonly thins = new Map<number, string>([[0, "empty"]]);
  /** side effects until everything stops; undefined: it goes on */
  fuse: number | undefined;
  full = false;
  /** thin device that holds the blocks that are missing for one more snapshot */
  inTheWay: number | undefined;
  /** by which the clock is ahead */
  laterMs = 0;
  /** nobody can tell whether it is full */
  statusFails = false;
  /** snapshots come to be, and then something goes wrong */
  snapshotFails = false;
  /** called when a snapshot has just been made */
  onSnapshot: () => void = () => {};
  /** a tree on which the container does not start */
  broken: string | undefined;

  /** Called before and after each effect. @throws when the VM is dead */
  step(): void {
    if (this.fuse === undefined) return;
    if (this.fuse === 0) throw new Error("the VM has died");
    this.fuse--;
  }

  async effect<T>(work: () => T): Promise<T> {
    this.step();
    const result = work();
    await Promise.resolve();
    this.step();
    return result;
  }
}

/** One life of a pilot on that pool. */
export class PilotModel {
  readonly ledger: Ledger;
  readonly checkpoints: Checkpoints;
  readonly #pool: PoolModel;
  /** times that somebody was told of a checkpoint taken or deleted */
  changes = 0;
  /** told what is to be seen inside; returns what of it cannot be mounted */
  onShow: (ids: string[], mayMount: () => Promise<void>) => string[] | Promise<string[]> = () => [];
  #reaping: Promise<void> = Promise.resolve();

  private constructor(pool: PoolModel, ledger: Ledger) {
    this.#pool = pool;
    this.ledger = ledger;
    const update = ledger.update.bind(ledger);
    ledger.update = async (change) => {
      pool.step();
      await update(change);
      pool.step();
    };
    this.checkpoints = new Checkpoints({
      volume: this.#volume(),
      treeSwitch: {
        stage: (source) => this.#stage(source),
        discard: async ({ thin }) => this.#drop(thin),
        switchToStaged: (staged, options) => this.#switch(staged, options),
      },
      view: {
        ...noView,
        show: async (wanted, mayMount) =>
          this.onShow(
            wanted.map(({ id }) => id),
            mayMount,
          ),
      },
      shown: 5,
      shownAfterMs: 0,
      giveUpUploaded: () => new VolumeUpload({ ledger } as ThinVolume, fails, fails, () => []).giveUp(),
      onChanged: () => this.changes++,
      now: () => new Date(Date.now() + pool.laterMs),
      onError: () => {},
    });
  }

  /** As a start from the disk does. */
  static async start(pool: PoolModel, path: string, isNew = false): Promise<PilotModel> {
    pool.fuse = undefined;
    const pilot = new PilotModel(pool, isNew ? await Ledger.create(path) : await Ledger.open(path));
    await pilot.#reap();
    return pilot;
  }

  /** Resolves when nothing goes on in the background. */
  async settled(): Promise<void> {
    await this.checkpoints.settled();
    await this.#reap();
  }

  get content(): string {
    return this.#pool.thins.get(this.ledger.state.live.thin) ?? "LOST";
  }

  write(content: string): void {
    this.#pool.thins.set(this.ledger.state.live.thin, content);
  }

  contentOf(id: string): string | undefined {
    return this.#pool.thins.get(this.ledger.find(id)?.thin ?? -1);
  }

  #volume(): CheckpointVolume {
    const { ledger } = this;
    return {
      ledger,
      pool: {
        requireRoomForSnapshot: async () => {
          if (this.#pool.statusFails) throw new HobError("helper_failed", "no status of the pool");
          const { full, inTheWay, thins } = this.#pool;
          if (full || (inTheWay !== undefined && thins.has(inTheWay))) throw new HobError("no_space", "full");
        },
      },
      snapshotLive: async (thin) => {
        await this.#pool.effect(() => this.#pool.thins.set(thin, this.content));
        this.#pool.onSnapshot();
        if (this.#pool.snapshotFails) throw new Error("no snapshot");
        return 1;
      },
      reap: () => this.#reap(),
      sync: async () => {},
      contentMark: async () => `${ledger.state.live.thin}:${this.content}`,
    };
  }

  async #stage(source: TreeSource): Promise<StagedVolume> {
    const thin = await this.ledger.reserveThin();
    const content = "thin" in source ? this.#pool.thins.get(source.thin) : "";
    await this.#pool.effect(() => this.#pool.thins.set(thin, content ?? "LOST"));
    return { thin, origin: null, tree: treeAt("/nowhere") };
  }

  async #switch({ thin }: StagedVolume, { history, undo }: { history: readonly string[]; undo: string | null }): Promise<[]> {
    if (this.#pool.thins.get(thin) === this.#pool.broken) {
      this.#drop(thin);
      throw new Error("the container does not start");
    }
    const before = this.ledger.state.live.thin;
    await this.ledger.update((state) => ({
      ...state,
      live: { thin, history: [...history], origin: null },
      undo,
      pending: [...settle(state, thin), before],
    }));
    this.#drop(thin);
    return [];
  }

  #drop(thin: number): void {
    this.ledger.release(thin);
    void this.#reap();
  }

  /** As the real one: one at a time, and whatever fails is left for the next time. */
  #reap(): Promise<void> {
    this.#reaping = this.#reaping.then(() => this.#reapNow()).catch(() => {});
    return this.#reaping;
  }

  async #reapNow(): Promise<void> {
    for (const thin of this.ledger.garbage()) {
      await this.#pool.effect(() => this.#pool.thins.delete(thin));
      await this.ledger.update((state) => ({ ...state, pending: settle(state, thin) }));
    }
  }
}

const fails = () => {
  throw new Error("nothing is uploaded");
};
const noView: CheckpointView = { show: async () => [], hide: async () => {} };
