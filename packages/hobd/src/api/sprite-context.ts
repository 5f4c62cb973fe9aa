import { HobError, type SpriteStatus } from "@hob/protocol";
import type { Logger } from "pino";
import type { SpriteUses } from "../activity/use.ts";
import type { SpriteCatalogue } from "../object-store/catalogue.ts";
import type { SpriteRecord, SpriteRegistry } from "../registry/registry.ts";
import type { SpriteRuntime } from "../runtime/sprite-runtime.ts";
import type { CapacityGate } from "./capacity.ts";
import type { CreateRate } from "./create-rate.ts";
import type { SpriteUrl } from "./present.ts";

/** What the parts that act on sprites share. */
export interface SpriteContext {
  readonly sprites: SpriteRegistry;
  readonly runtime: SpriteRuntime;
  readonly gate: CapacityGate;
  /** sprites as the object store describes them */
  readonly catalogue: SpriteCatalogue;
  readonly createRate: CreateRate;
  /** who uses which sprite through the front door */
  readonly uses: SpriteUses;
  readonly urlOf: SpriteUrl;
  readonly log: Logger;
  /** Unix milliseconds */
  readonly now: () => number;
  readonly events: SpriteEvents;
}

export interface SpriteEvent {
  type: "created" | "updated" | "deleted" | "status";
  id: string;
  name: string;
  status: SpriteStatus;
  at: number;
}

/** Tells everyone who listens what happened to a sprite, in order, at once. */
export class SpriteEvents {
  readonly #listeners = new Set<(event: SpriteEvent) => void>();

  emit(event: SpriteEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  /** Returns what ends the subscription. */
  subscribe(listener: (event: SpriteEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** The sprite of this name, when clients may see it. @throws HobError `not_found` */
export async function requireSprite(sprites: SpriteRegistry, name: string): Promise<SpriteRecord> {
  const record = await sprites.findByName(name);
  if (record?.state !== "ready") throw spriteNotFound(name);
  return record;
}

export const spriteNotFound = (name: string): HobError =>
  new HobError("not_found", `find sprite ${shorten(name)}: no sprite of this name`, { hint: "'hob list' shows the sprites" });

const shorten = (name: string): string => JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name);
