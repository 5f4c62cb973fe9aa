import { identityOf } from "../api/present.ts";
import type { SpriteContext } from "../api/sprite-context.ts";
import { Cursors } from "./cursors.ts";
import { Shipper } from "./shipper.ts";
import type { LogSink } from "./sink.ts";

/** Ships the logs of services of all running sprites to one sink. A sprite is never woken for that. */
export class LogShipping {
  readonly #context: SpriteContext;
  readonly #sink: LogSink;
  readonly #cursors: Cursors;
  readonly #shippers = new Map<string, Shipper>();
  /** those that finish their last batch: the next one of the same sprite begins behind it */
  readonly #ending = new Map<string, Promise<void>>();
  readonly #unsubscribe: () => void;
  #stopped = false;

  /** @param directory of what has been shipped */
  constructor(context: SpriteContext, sink: LogSink, directory: string) {
    this.#context = context;
    this.#sink = sink;
    this.#cursors = new Cursors(directory);
    this.#unsubscribe = context.events.subscribe(({ type, id, name, status }) => {
      if (type === "deleted") void this.#end(id).then(() => this.#cursors.remove(id));
      else if (status === "running") this.#begin(id, name);
      else void this.#end(id);
    });
  }

  /** Takes up the sprites that run already. */
  async start(): Promise<void> {
    const { sprites, runtime } = this.#context;
    const records = await sprites.listByState("ready");
    await this.#cursors.keepOnly(new Set(records.map(({ id }) => id)));
    for (const { id, name } of records) if (runtime.status(id) === "running") this.#begin(id, name);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#unsubscribe();
    await Promise.all([...this.#shippers.keys()].map((id) => this.#end(id)));
  }

  #begin(spriteId: string, spriteName: string): void {
    if (this.#stopped || this.#shippers.has(spriteId)) return;
    const { sprites, runtime, urlOf, log } = this.#context;
    const locate = async () => {
      const record = await sprites.findById(spriteId);
      // The runtime wakes what does not run: asking for its status and for the way to it must be one step.
      if (record?.state !== "ready" || runtime.status(spriteId) !== "running") return undefined;
      return runtime.endpoint(identityOf(record, urlOf), record.machine);
    };
    const after = this.#ending.get(spriteId) ?? Promise.resolve();
    this.#shippers.set(spriteId, new Shipper({ spriteId, spriteName, sink: this.#sink, cursors: this.#cursors, log, locate, after }));
  }

  async #end(spriteId: string): Promise<void> {
    const shipper = this.#shippers.get(spriteId);
    if (shipper === undefined) return this.#ending.get(spriteId);
    this.#shippers.delete(spriteId);
    const ended = shipper.stop();
    this.#ending.set(spriteId, ended);
    await ended;
    if (this.#ending.get(spriteId) === ended) this.#ending.delete(spriteId);
  }
}
