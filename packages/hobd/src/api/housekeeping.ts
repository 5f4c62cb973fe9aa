import { IDEMPOTENCY_KEPT_MS } from "../registry/registry.ts";
import type { SpriteDestroyer } from "./destroy-sprite.ts";
import { identityOf } from "./present.ts";
import type { SpriteContext } from "./sprite-context.ts";

/** Milliseconds between rounds of housekeeping. */
const INTERVAL_MS = 10 * 60_000;

/**
 * Brings the registry from what a crash may have left to a state that clients can be shown: creates that had not
 * ended are rolled back, destroys are finished, and the runtime adopts or cleans up the VMs.
 */
export async function recoverSprites(context: SpriteContext, destroyer: SpriteDestroyer): Promise<void> {
  const { sprites, runtime, urlOf, now, log } = context;
  for (const { id, name } of await sprites.listByState("creating")) {
    log.warn({ sprite: id, name }, "rolling back a create that did not end");
    await sprites.abandon(id, now());
  }
  await destroyer.finishAll();
  await context.catalogue.adopt(sprites, now);
  const known = await sprites.listByState("ready");
  await runtime.recover(known.map((record) => ({ identity: identityOf(record, urlOf), machine: record.machine })));
  log.info({ sprites: known.length }, "sprites recovered");
}

/** Drops old idempotency keys and retries destroys that failed, now and then, until disposed. */
export function startHousekeeping(context: SpriteContext, destroyer: SpriteDestroyer): Disposable {
  const round = async () => {
    await context.sprites.purgeIdempotency(context.now() - IDEMPOTENCY_KEPT_MS);
    await destroyer.finishAll();
  };
  const timer = setInterval(() => {
    round().catch((error) => context.log.error({ err: error }, "housekeeping failed"));
  }, INTERVAL_MS);
  timer.unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
