import type { ActivityHolder } from "@hob/protocol";

/** Requests below a sprite's name that only look on: they may wake a sprite, and do not keep it awake. */
const ONLOOKERS = /^\/(?:ports|fs)\/watch$/;

const LABEL_CHARACTERS_MAX = 120;

/** What one request or connection does to a sprite. */
export interface Use {
  kind: string;
  /** for people; never with a query string */
  label: string;
  /** false: it counts as use when it begins, and then holds nothing */
  holds: boolean;
  /** false: it holds while it lasts, and its end leaves no trace: the host's own questions */
  counts?: boolean;
}

/** What a request to a pilot is, by method and target; the query, which may hold secrets, is left out. */
export function describeUse(method: string | undefined, target: string, upgrade: boolean): Use {
  const path = target.split("?", 1)[0]?.replace(/^\/v1\/sprites\/[^/]*/, "") ?? "";
  const family = path.split("/")[1] ?? "";
  const kind = upgrade && (family === "exec" || family === "proxy") ? family : upgrade ? "connection" : "request";
  return { kind, label: `${method ?? "GET"} ${path}`.slice(0, LABEL_CHARACTERS_MAX), holds: !(upgrade && ONLOOKERS.test(path)) };
}

interface SpriteUse {
  readonly holders: Set<ActivityHolder>;
  /** Unix milliseconds */
  lastUsedAt: number;
}

/**
 * Who uses which sprite through the front door at this moment. A request counts from before its sprite is looked for
 * until its answer has passed, an upgraded connection until it is closed: so between a look at `inUse` and a decision
 * without an await, no request can slip in.
 */
export class SpriteUses {
  readonly #uses = new Map<string, SpriteUse>();
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Notes that someone begins to use the sprite; disposing says that they have ended. Disposing twice is harmless. */
  begin(id: string, { kind, label, holds, counts = true }: Use): Disposable {
    const use = this.#of(id);
    const holder = { kind, label, since: this.#now() };
    if (counts) use.lastUsedAt = holder.since;
    if (holds) use.holders.add(holder);
    return {
      [Symbol.dispose]: () => {
        if (use.holders.delete(holder) && counts) use.lastUsedAt = this.#now();
      },
    };
  }

  inUse(id: string): boolean {
    return (this.#uses.get(id)?.holders.size ?? 0) > 0;
  }

  /** Oldest first. */
  holders(id: string): ActivityHolder[] {
    return [...(this.#uses.get(id)?.holders ?? [])];
  }

  /** Unix milliseconds of the last begin or end of a use; 0 when there was none. */
  lastUsedAt(id: string): number {
    return this.#uses.get(id)?.lastUsedAt ?? 0;
  }

  /** Drops what is known of a sprite that nobody uses. */
  forget(id: string): void {
    if (!this.inUse(id)) this.#uses.delete(id);
  }

  #of(id: string): SpriteUse {
    const use = this.#uses.get(id) ?? { holders: new Set(), lastUsedAt: 0 };
    this.#uses.set(id, use);
    return use;
  }
}
