import type { SpritePolicies, SpriteStatus, UrlSettings } from "@hob/protocol";
import type { MachineSpec } from "../runtime/sprite-runtime.ts";

export const SPRITE_STATES = ["creating", "ready", "destroying"] as const;
/**
 * Where a sprite's row is in its life. `creating`: the VM is being made, no client sees the sprite, its name is taken.
 * `ready`: it exists. `destroying`: gone for every client, its name is free again, its VM and files may still be there.
 */
export type SpriteState = (typeof SPRITE_STATES)[number];

/** Legal moves. A row disappears from `creating` (a create that failed) and from `destroying` (all files are gone). */
export const SPRITE_MOVES = {
  creating: ["ready", "destroying"],
  ready: ["destroying"],
  destroying: [],
} as const satisfies Record<SpriteState, readonly SpriteState[]>;

export const canMove = (from: SpriteState, to: SpriteState): boolean => (SPRITE_MOVES[from] as readonly SpriteState[]).includes(to);

/** A sprite as the registry keeps it. Times are Unix milliseconds. */
export interface SpriteRecord {
  /** `sprite-<uuid v4>` */
  id: string;
  name: string;
  state: SpriteState;
  machine: MachineSpec;
  labels: string[];
  urlSettings: { auth: "sprite" | "public"; private_access?: NonNullable<UrlSettings["private_access"]> };
  environment: Record<string, string>;
  /** 32 hexadecimal digits, machine-id(5) */
  machineId: string;
  /** secret between host and microVM: 64 hexadecimal digits */
  pilotToken: string;
  policies: SpritePolicies;
  createdAt: number;
  updatedAt: number;
  lastRunningAt: number | null;
  lastWarmingAt: number | null;
  /** seconds without use after which it sleeps; 0: never; null: as the daemon is configured */
  idleTimeoutSeconds: number | null;
}

/** What PUT may change; a missing field stays as it is. */
export interface SpriteSettingsPatch {
  labels?: string[];
  urlSettings?: Partial<SpriteRecord["urlSettings"]>;
  idleTimeoutSeconds?: number | null;
}

/** What a policy route may change; a missing field stays as it is. */
export type SpritePoliciesPatch = Partial<Omit<SpritePolicies, "revision">>;

/** An Idempotency-Key that has been used: the sprite it made, and a SHA-256 (hex) of the request it came with. */
export interface IdempotencyRecord {
  key: string;
  requestHash: string;
  spriteId: string;
  createdAt: number;
}

/** Milliseconds after which a used Idempotency-Key may be used anew. */
export const IDEMPOTENCY_KEPT_MS = 24 * 60 * 60 * 1000;

export interface SpritePage {
  prefix: string;
  /** only names sorted after this one; "" for all */
  after: string;
  limit: number;
}

/**
 * The host's record of its sprites. One daemon writes it at a time; the methods are asynchronous so that an
 * implementation may live on another machine. Every write is durable when its promise resolves.
 *
 * @throws HobError `no_space` when the disk is full, `internal` on any other failure of the store
 */
export interface SpriteRegistry {
  /** Adds a row in `creating`, and the key that asked for it, in one transaction. @throws HobError `name_taken` */
  insert(sprite: SpriteRecord, idempotency?: IdempotencyRecord): Promise<void>;
  /** By name; rows in `destroying` have none. */
  findByName(name: string): Promise<SpriteRecord | undefined>;
  findById(id: string): Promise<SpriteRecord | undefined>;
  /** Rows in `ready`, sorted by name (byte order). */
  list(page: SpritePage): Promise<SpriteRecord[]>;
  /** Every row in this state, sorted by id. */
  listByState(state: SpriteState): Promise<SpriteRecord[]>;
  /** Ids of all rows in `ready`. */
  listReadyIds(): Promise<string[]>;
  /** Moves a row if it is in `from`; false when it is not. @throws Error on a move that SPRITE_MOVES does not have */
  move(id: string, from: SpriteState, to: SpriteState, at: number): Promise<boolean>;
  /** Removes the row. Idempotent. */
  remove(id: string): Promise<void>;
  /** Moves a row from `creating` to `destroying` and forgets the key that asked for it: a retry of a failed create starts anew. */
  abandon(id: string, at: number): Promise<void>;
  /** Applies the patch to a row in `ready`; undefined when there is none. */
  updateSettings(name: string, patch: SpriteSettingsPatch, at: number): Promise<SpriteRecord | undefined>;
  /** Gives a row in `creating` the policies and the size of disk that its sprite begins with. @throws Error when there is none */
  begin(record: Pick<SpriteRecord, "id" | "policies" | "machine">): Promise<void>;
  /** Applies the patch to the policies of a row in `ready` and raises their revision; undefined when there is none. */
  updatePolicies(name: string, patch: SpritePoliciesPatch, at: number): Promise<SpriteRecord | undefined>;
  /** Records when a sprite was last seen running or warm. */
  noteStatus(id: string, status: SpriteStatus, at: number): Promise<void>;
  findIdempotency(key: string): Promise<IdempotencyRecord | undefined>;
  /** Removes keys used before this time; how many. */
  purgeIdempotency(before: number): Promise<number>;
}

/** An API token as kept: the secret itself is never stored. Times are Unix milliseconds. */
export interface TokenRecord {
  /** 16 hexadecimal digits */
  id: string;
  description: string;
  /** SHA-256 of the secret, hex */
  secretHash: string;
  createdAt: number;
  lastUsedAt: number | null;
  revokedAt: number | null;
}

export interface TokenRegistry {
  insertToken(token: TokenRecord): Promise<void>;
  findToken(id: string): Promise<TokenRecord | undefined>;
  /** Oldest first, revoked ones included. */
  listTokens(): Promise<TokenRecord[]>;
  /** Marks a token revoked; false when there is none or it already is. */
  revokeToken(id: string, at: number): Promise<boolean>;
  /** Sets the last use of several tokens in one transaction; never moves one back. */
  noteTokenUse(lastUsed: ReadonlyMap<string, number>): Promise<void>;
}

/** The whole store of one home directory. */
export interface Registry extends AsyncDisposable {
  readonly sprites: SpriteRegistry;
  readonly tokens: TokenRegistry;
}
