import { setTimeout as sleep } from "node:timers/promises";
import { HobError } from "@hob/protocol";
import type { SpriteRecord } from "../registry/registry.ts";
import type { SpriteCreator } from "./create-sprite.ts";
import { type SpriteContext, spriteNotFound } from "./sprite-context.ts";

/** Milliseconds a destroy waits for a create of the same name, and for the VM's end: the SDKs give up after 30 s. */
const CREATE_WAIT_MS = 20_000;
const DESTROY_WAIT_MS = 8_000;

/**
 * Destroys sprites. The name is free as soon as the row has left `ready`; VM and files follow, if need be after the
 * answer or at the next start.
 */
export class SpriteDestroyer {
  readonly #context: SpriteContext;
  readonly #creator: SpriteCreator;
  readonly #underWay = new Map<string, Promise<void>>();

  constructor(context: SpriteContext, creator: SpriteCreator) {
    this.#context = context;
    this.#creator = creator;
  }

  /** @throws HobError `not_found` | `conflict` when the sprite is still being created after a bounded wait */
  async destroy(name: string): Promise<void> {
    const { sprites, runtime, now, events, gate } = this.#context;
    const record = await this.#findSettled(name);
    const at = now();
    // Two requests may both have found the row; one of them moves it.
    if (!(await sprites.move(record.id, "ready", "destroying", at))) throw spriteNotFound(name);
    events.emit({ type: "deleted", id: record.id, name, status: runtime.status(record.id), at });
    await Promise.race([this.#finish(record), sleep(DESTROY_WAIT_MS, undefined, { ref: false })]);
    gate.notify();
  }

  /** Ends every destroy that a fault or a stop has left behind. What fails again stays for the next call. */
  async finishAll(): Promise<void> {
    const left = await this.#context.sprites.listByState("destroying");
    await Promise.all(left.map((record) => this.#finish(record)));
  }

  async #findSettled(name: string): Promise<SpriteRecord> {
    const { sprites } = this.#context;
    let record = await sprites.findByName(name);
    if (record?.state === "creating") {
      await Promise.race([this.#creator.settled(name), sleep(CREATE_WAIT_MS, undefined, { ref: false })]);
      record = await sprites.findByName(name);
    }
    if (record === undefined) throw spriteNotFound(name);
    if (record.state === "creating") {
      throw new HobError("conflict", `destroy sprite ${name}: it is still being created`, { hint: "try again in a moment" });
    }
    return record;
  }

  /** Never rejects: a failure is logged and leaves the row in `destroying`. */
  #finish({ id, name }: SpriteRecord): Promise<void> {
    const underWay = this.#underWay.get(id);
    if (underWay !== undefined) return underWay;
    const { sprites, runtime, catalogue, log } = this.#context;
    const work = (async () => {
      try {
        await runtime.destroy(id);
        await catalogue.remove(id);
        await sprites.remove(id);
        log.info({ sprite: id, name }, "sprite destroyed");
      } catch (error) {
        log.error({ sprite: id, name, err: error }, "destroy is not finished; it will be tried again");
      } finally {
        this.#underWay.delete(id);
        this.#context.gate.notify();
      }
    })();
    this.#underWay.set(id, work);
    return work;
  }
}
