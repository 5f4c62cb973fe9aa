import { HobError } from "@hob/protocol";
import { IDEMPOTENCY_KEPT_MS } from "../registry/registry.ts";
import type { SpriteDestroyer } from "./destroy-sprite.ts";
import { identityOf } from "./present.ts";
import type { SpriteContext } from "./sprite-context.ts";

/** Milliseconds between rounds of housekeeping. */
const INTERVAL_MS = 10 * 60_000;

/**
 * Brings the registry from what a crash may have left to a state that clients can be shown: creates that had not
 * ended are rolled back, destroys are finished, and the runtime adopts or cleans up the VMs.
 *
 * @returns whether the sprites of the object store are in the registry; false: it does not answer
 */
export async function recoverSprites(context: SpriteContext, destroyer: SpriteDestroyer): Promise<boolean> {
  const { sprites, runtime, urlOf, now, log } = context;
  for (const { id, name } of await sprites.listByState("creating")) {
    log.warn({ sprite: id, name }, "rolling back a create that did not end");
    await sprites.abandon(id, now());
  }
  await destroyer.finishAll();
  const hasAdopted = await tryToAdopt(context);
  const known = await sprites.listByState("ready");
  // A folder that no row names may be of a sprite that only the store knows of, and the only copy of what it wrote last.
  await runtime.recover(
    known.map((record) => ({ identity: identityOf(record, urlOf), machine: record.machine })),
    { keepsUnknown: !hasAdopted },
  );
  log.info({ sprites: known.length }, "sprites recovered");
  return hasAdopted;
}

async function tryToAdopt({ catalogue, sprites, now, log }: SpriteContext): Promise<boolean> {
  try {
    await catalogue.adopt(sprites, now);
    return true;
  } catch (error) {
    if (!(error instanceof HobError && error.code === "store_unavailable")) throw error;
    log.warn({ err: error }, "the object store does not answer; what it has of other sprites is looked for when it does");
    return false;
  }
}

export interface HousekeepingParts {
  /** whether the sprites of the object store are in the registry */
  hasAdopted: boolean;
  /** resolves when the object store can be used */
  storeIsFit: Promise<void>;
}

/**
 * Drops old idempotency keys, retries destroys and descriptions that failed, and adopts the sprites of a store that did not answer at
 * the start, now and then and when that store answers, until disposed.
 */
export function startHousekeeping(context: SpriteContext, destroyer: SpriteDestroyer, parts: HousekeepingParts): Disposable {
  let { hasAdopted } = parts;
  let isOver = false;
  const round = async () => {
    if (isOver) return;
    await context.sprites.purgeIdempotency(context.now() - IDEMPOTENCY_KEPT_MS);
    hasAdopted ||= await tryToAdopt(context);
    await destroyer.finishAll();
    await context.catalogue.describeOutdated(context.sprites);
  };
  const look = () => void round().catch((error) => context.log.error({ err: error }, "housekeeping failed"));
  if (!hasAdopted) void parts.storeIsFit.then(look);
  const timer = setInterval(look, INTERVAL_MS).unref();
  const end = () => {
    isOver = true;
    clearInterval(timer);
  };
  return { [Symbol.dispose]: end };
}
