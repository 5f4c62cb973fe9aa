import { OrgKeys } from "../../src/format/keys.ts";
import { exportSprite } from "../../src/maintenance/export.ts";
import { fsck } from "../../src/maintenance/fsck.ts";
import { collectGarbage, GC_GRACE_MS } from "../../src/maintenance/gc.ts";
import { importSprite } from "../../src/maintenance/import.ts";
import type { MapRoot } from "../../src/map/chunk-ref.ts";
import { acquire } from "../../src/ownership/acquire.ts";
import { forkSprite } from "../../src/ownership/fork.ts";
import { listAll } from "../../src/store/list-all.ts";
import { applyTo, changesOf, type Model } from "./blocks.ts";
import { Random } from "./random.ts";
import type { TortureOptions, TortureReport } from "./torture-report.ts";
import { blockAt, type Contents, create, type Intent, newUploader, PLACES, TortureSprite, verifyState } from "./torture-sprite.ts";
import { TortureStore } from "./torture-store.ts";

const ORG = "torture";
const MAX_SPRITES = 5;
const MAX_CHECKPOINTS = 6;

/**
 * Random updates, checkpoints, restores, deletes, forks, crashes, take-overs, exports and garbage collections on a store that
 * fails. After each, what was acknowledged is read back.
 *
 * @throws Error with the seed when anything acknowledged is lost
 */
export async function torture(options: TortureOptions): Promise<TortureReport> {
  const run = new Torture(options);
  try {
    return await run.run();
  } catch (error) {
    throw new Error(`torture with seed ${options.seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

class Torture {
  readonly #options: TortureOptions;
  readonly #random: Random;
  readonly #failing: TortureStore;
  readonly #store: TortureStore["store"];
  readonly #sprites: TortureSprite[] = [];
  readonly #contents: Contents = new Map([[null, new Map()]]);
  readonly #report: Pick<TortureReport, "seed" | "operations" | "verifiedStates">;
  #created = 0;

  constructor(options: TortureOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#report = { seed: options.seed, operations: {}, verifiedStates: 0 };
    this.#failing = new TortureStore(options.store, this.#random, options.faultRate ?? 0.1);
    this.#store = this.#failing.store;
  }

  async run(): Promise<TortureReport> {
    const operations: Record<string, (sprite: TortureSprite) => Promise<void>> = {
      write: (sprite) => this.#write(sprite),
      writeAgain: (sprite) => this.#write(sprite),
      checkpoint: (sprite) => this.#checkpoint(sprite),
      checkpointAgain: (sprite) => this.#checkpoint(sprite),
      restore: (sprite) => this.#restore(sprite),
      delete: (sprite) => this.#delete(sprite),
      fork: (sprite) => this.#fork(sprite),
      destroy: (sprite) => this.#destroy(sprite),
      crash: (sprite) => this.#crash(sprite),
      takeOver: (sprite) => this.#takeOver(sprite),
      gc: (sprite) => this.#gc(sprite),
      move: (sprite) => this.#move(sprite),
    };
    await this.#create();
    for (let done = 0; done < this.#options.operations; done++) {
      if (this.#sprites.length === 0) await this.#create();
      const name = this.#random.pick(Object.keys(operations));
      this.#report.operations[name] = (this.#report.operations[name] ?? 0) + 1;
      await operations[name]?.(this.#random.pick(this.#sprites));
      if (this.#sprites.length > 0) await this.#verify(this.#random.pick(this.#sprites));
    }
    await this.#calmly(() => this.#end());
    const { faults, uncertain } = this.#failing;
    return { ...this.#report, faults, uncertain };
  }

  /** Of what is needed nothing is collected, and of what is not nothing stays: uploads that were cut off, too. */
  async #end(): Promise<void> {
    await this.#collectAll();
    for (const sprite of this.#sprites) await this.#verify(sprite);
    const { damage } = await fsck({ store: this.#store, org: ORG });
    if (damage.length > 0) throw new Error(`LOSS: fsck finds ${JSON.stringify(damage[0])}`);
    for (const { owned } of this.#sprites) await owned.destroy();
    await this.#collectAll();
    for await (const { key } of listAll(this.#store, "")) {
      if (key !== new OrgKeys(ORG).gc) throw new Error(`left in the store: ${key}`);
    }
  }

  async #collectAll(): Promise<void> {
    await this.#options.advance(2 * GC_GRACE_MS);
    await collectGarbage({ store: this.#store, org: ORG });
  }

  readonly #calmly = <R>(work: () => Promise<R>): Promise<R> => this.#failing.calmly(work);
  readonly #attempt = (work: () => Promise<unknown>): Promise<boolean> => this.#failing.attempt(work);

  #changes(): [number, number][] {
    const count = 1 + this.#random.below(12);
    return Array.from({ length: count }, () => [
      blockAt(this.#random.below(PLACES)),
      this.#random.chance(0.2) ? 0 : this.#random.below(40),
    ]);
  }

  #content(root: MapRoot): Model {
    const model = this.#contents.get(root);
    if (model === undefined) throw new Error(`LOSS: a state that nobody made: ${root}`);
    return model;
  }

  async #settle(sprite: TortureSprite, intent: Intent): Promise<void> {
    await this.#calmly(() => sprite.settle(intent));
  }

  async #create(): Promise<void> {
    const id = `s${++this.#created}`;
    const owned = await this.#calmly(() => create(this.#store, ORG, id, "host"));
    this.#sprites.push(new TortureSprite(this.#store, ORG, owned));
  }

  async #write(sprite: TortureSprite): Promise<void> {
    const changes = this.#changes();
    const before = sprite.root;
    const intent: Intent = {};
    const done = await this.#attempt(async () => {
      const result = await sprite.uploader.upload(before, changesOf(changes));
      const { root } = result;
      this.#contents.set(root, applyTo(this.#content(before), changes));
      // Time for others between the upload and the head.
      for (let turns = this.#random.below(10); turns > 0; turns--) await new Promise(setImmediate);
      intent.root = root;
      await sprite.owned.publish({ root, storedBlocks: result.storedBlocks }, { startedAt: result.startedAt });
    });
    if (done) sprite.root = intent.root ?? null;
    else await this.#settle(sprite, intent);
  }

  async #checkpoint(sprite: TortureSprite): Promise<void> {
    if (sprite.checkpoints.size >= MAX_CHECKPOINTS) return await this.#delete(sprite);
    const id = `v${sprite.nextCheckpoint++}`;
    sprite.machine.checkpoints.set(id, sprite.machine.live);
    const { root, storedBlocks } = sprite.owned.head;
    const checkpoint = { id, comment: "", createdAt: new Date().toISOString(), root, storedBlocks, automatic: false };
    if (await this.#attempt(() => sprite.owned.addCheckpoint(checkpoint, { parent: id }))) sprite.checkpoints.set(id, root);
    else await this.#settle(sprite, { added: { id, root } });
  }

  async #restore(sprite: TortureSprite): Promise<void> {
    if (sprite.checkpoints.size === 0) return;
    const [id, root] = this.#random.pick([...sprite.checkpoints]);
    sprite.machine.live = sprite.machine.checkpoints.get(id) ?? null;
    if (await this.#attempt(() => sprite.owned.publish({ root, parent: id, storedBlocks: this.#content(root).size }))) sprite.root = root;
    else await this.#settle(sprite, { root });
  }

  async #delete(sprite: TortureSprite): Promise<void> {
    if (sprite.checkpoints.size === 0) return;
    const id = this.#random.pick([...sprite.checkpoints.keys()]);
    sprite.machine.checkpoints.delete(id);
    if (await this.#attempt(() => sprite.owned.deleteCheckpoint(id))) sprite.checkpoints.delete(id);
    else await this.#settle(sprite, { deleted: id });
  }

  async #fork(sprite: TortureSprite): Promise<void> {
    if (this.#sprites.length >= MAX_SPRITES) return await this.#destroy(sprite);
    const id = `s${++this.#created}`;
    const [checkpoint, root] = sprite.checkpoints.size > 0 ? this.#random.pick([...sprite.checkpoints]) : [undefined, sprite.root];
    const options = {
      store: this.#store,
      org: ORG,
      source: sprite.id,
      sprite: id,
      owner: "host",
      ...(checkpoint === undefined ? {} : { checkpoint }),
    };
    const done = await this.#attempt(() => forkSprite(options));
    const fork = await this.#made(id, done);
    if (fork === undefined) return;
    fork.root = root;
    await this.#verify(fork);
  }

  /** A sprite that was made, and has an owner now. @returns undefined when it is not there because its making was cut off */
  async #made(id: string, isSure: boolean): Promise<TortureSprite | undefined> {
    const head = await this.#calmly(() => this.#store.head(new OrgKeys(ORG).sprite(id).head));
    if (head === undefined && !isSure) return undefined;
    const owned = await this.#calmly(() => acquire({ store: this.#store, org: ORG, sprite: id, owner: "host", takeOver: true }));
    const sprite = new TortureSprite(this.#store, ORG, owned);
    await this.#calmly(() => sprite.start(this.#store, ORG, "host", { anew: true }));
    this.#sprites.push(sprite);
    return sprite;
  }

  async #destroy(sprite: TortureSprite): Promise<void> {
    while (!(await this.#attempt(() => sprite.owned.destroy()))) {
      // Its head may be gone already: then it is done.
      const head = await this.#calmly(() => this.#store.head(sprite.owned.keys.head));
      if (head === undefined) break;
    }
    this.#sprites.splice(this.#sprites.indexOf(sprite), 1);
  }

  /** An upload that is never published, of a process that starts again as the same host. */
  async #crash(sprite: TortureSprite): Promise<void> {
    const stop = new AbortController();
    const { root } = sprite;
    const upload = this.#attempt(() => sprite.uploader.upload(root, changesOf(this.#changes()), { signal: stop.signal })).catch(
      () => false,
    );
    for (let turns = this.#random.below(30); turns > 0; turns--) await new Promise(setImmediate);
    stop.abort(new Error("killed"));
    await upload;
    await this.#calmly(() => sprite.start(this.#store, ORG, "host", { anew: false }));
    sprite.uploader = newUploader(this.#store, ORG);
    if (sprite.owned.head.root !== sprite.root) throw new Error(`LOSS: ${sprite.id} came back with another state`);
  }

  /** Another host takes the sprite while the old one writes: the old one must not get through. */
  async #takeOver(sprite: TortureSprite): Promise<void> {
    const old = sprite.owned;
    await this.#calmly(() => sprite.start(this.#store, ORG, `host-${this.#random.below(100)}`, { anew: true }));
    const result = await this.#calmly(() => newUploader(this.#store, ORG).upload(sprite.root, changesOf(this.#changes())));
    const refused = await this.#calmly(() =>
      old.publish({ root: result.root }).then(
        () => "published",
        (error) => error.code,
      ),
    );
    if (refused !== "ownership_lost") throw new Error(`LOSS: a host that has lost ${sprite.id} wrote its head: ${refused}`);
  }

  async #gc(sprite: TortureSprite): Promise<void> {
    await this.#options.advance(this.#random.chance(0.5) ? GC_GRACE_MS + 1000 : GC_GRACE_MS / 3);
    // What was found again by its hash must not have been sent before the time that has just passed.
    for (const one of this.#sprites) one.uploader = newUploader(this.#store, ORG);
    let done = false;
    const gc = this.#attempt(() => collectGarbage({ store: this.#store, org: ORG })).finally(() => {
      done = true;
    });
    // Writes at every moment of the collection, up to its end.
    const work = this.#sprites.map(async (one) => {
      if (one === sprite) await this.#checkpoint(one);
      for (let writes = 0; writes < 50 && !done; writes++) await this.#write(one);
    });
    await Promise.all([gc, ...work]);
    for (const one of this.#sprites) await this.#verifyMachine(one);
  }

  /** Exports a sprite and imports it as another. */
  async #move(sprite: TortureSprite): Promise<void> {
    if (this.#sprites.length >= MAX_SPRITES) return;
    const id = `s${++this.#created}`;
    const done = await this.#attempt(async () => {
      const source = exportSprite({ store: this.#store, org: ORG, sprite: sprite.id });
      await importSprite({ store: this.#store, org: ORG, sprite: id, owner: "host", source });
    });
    const moved = await this.#made(id, done);
    if (moved === undefined) return;
    const { root, checkpoints } = await this.#calmly(() => moved.find());
    if ([...checkpoints.keys()].join() !== [...sprite.checkpoints.keys()].join())
      throw new Error(`LOSS: ${id} has not the checkpoints of ${sprite.id}`);
    this.#contents.set(root, this.#content(sprite.root));
    for (const [name, copy] of checkpoints) this.#contents.set(copy, this.#content(sprite.checkpoints.get(name) ?? null));
    Object.assign(moved, { root, checkpoints, nextCheckpoint: sprite.nextCheckpoint });
    await this.#verify(moved);
  }

  async #verify(sprite: TortureSprite): Promise<void> {
    await this.#calmly(async () => {
      const head = await sprite.owned.refresh();
      if (head.root !== sprite.root) throw new Error(`LOSS: ${sprite.id} does not have its newest state`);
      const listed = head.checkpoints.map(({ id }) => id).join();
      if (listed !== [...sprite.checkpoints.keys()].join()) throw new Error(`LOSS: ${sprite.id} lists ${listed}`);
      await this.#verifyState(`${sprite.id}`, sprite.root);
      for (const [id, root] of sprite.checkpoints) {
        if ((await sprite.owned.readCheckpoint(id)).root !== root) throw new Error(`LOSS: ${sprite.id} ${id} has another root`);
        await this.#verifyState(`${sprite.id} ${id}`, root);
      }
    });
    await this.#verifyMachine(sprite);
  }

  /** What was never written there still reads as it did when the machine began. */
  async #verifyMachine(sprite: TortureSprite): Promise<void> {
    for (const root of sprite.machine.bases()) {
      await this.#calmly(() => this.#verifyState(`what the machine of ${sprite.id} reads through`, root));
    }
  }

  async #verifyState(what: string, root: MapRoot): Promise<void> {
    await verifyState(this.#store, ORG, what, root, this.#content(root));
    this.#report.verifiedStates++;
  }
}
