import { randomBytes } from "node:crypto";
import { HobError, SPRITE_NAME_PATTERN, type SpritePolicies, spritePolicies } from "@hob/protocol";
import {
  acquire,
  listAll,
  listSprites,
  OrgKeys,
  readHead,
  readSprite,
  type SpriteDocument,
  type SpriteKeys,
  writeSprite,
} from "@hob/storage";
import type { Logger } from "pino";
import { z } from "zod";
import type { SpriteRecord, SpriteRegistry } from "../registry/registry.ts";
import type { SpriteStorage } from "./sprite-storage.ts";

/** What a description has under `settings`. A host that does not understand it does not adopt the sprite: it would drop its policies. */
const settings = z.object({
  url_settings: z.object({
    auth: z.enum(["sprite", "public"]),
    private_access: z.enum(["admins", "organization", "org_users"]).optional(),
  }),
  idle_timeout_seconds: z.number().nonnegative().nullable(),
  policies: spritePolicies,
});

/**
 * The sprites as the object store describes them. A host whose registry is lost, or another host on the same store, finds
 * everything there that it needs to run them. Descriptions hold no tokens.
 */
export class SpriteCatalogue {
  readonly #storage: SpriteStorage;
  readonly #log: Logger;
  /** the last thing that is done to each sprite's description, until it has ended */
  readonly #turns = new Map<string, Promise<void>>();
  /** sprites whose description could not be written */
  readonly #outdated = new Set<string>();

  constructor(storage: SpriteStorage, log: Logger) {
    this.#storage = storage;
    this.#log = log;
  }

  /** Writes what the registry has of a sprite. In the order of the calls: what was known last stays. */
  describe(record: SpriteRecord): Promise<void> {
    return this.#inTurn(record.id, async () => {
      this.#outdated.add(record.id);
      await writeSprite(this.#storage.store, this.#documentOf(record));
      this.#outdated.delete(record.id);
    });
  }

  /** Writes the descriptions anew that the store did not take. @throws what the store throws */
  async describeOutdated(sprites: SpriteRegistry): Promise<void> {
    for (const id of [...this.#outdated]) {
      const record = await sprites.findById(id);
      if (record?.state === "ready") await this.describe(record);
      else if (record === undefined) this.#outdated.delete(id);
    }
  }

  /** Resolves when nothing is being written any more. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#turns.values());
  }

  /** Removes a sprite from the store: its description first, so that nobody adopts it; its packs go with the next gc. Idempotent. */
  remove(spriteId: string): Promise<void> {
    return this.#inTurn(spriteId, () => this.#remove(spriteId));
  }

  async #remove(spriteId: string): Promise<void> {
    const { store, organization: org, owner } = this.#storage;
    const keys = new OrgKeys(org).sprite(spriteId);
    await store.delete(keys.description);
    try {
      if ((await readHead(store, keys.head)) === undefined) return;
      const ownership = await acquire({ store, org, sprite: spriteId, owner, takeOver: true });
      await ownership.destroy();
    } catch (error) {
      if (!(error instanceof HobError && error.code === "data_damaged")) throw error;
      await this.#removeDamaged(keys, error);
    }
  }

  /** What the head names cannot be read, and nobody can own the sprite any more: what is the sprite's alone goes, the head last. */
  async #removeDamaged({ prefix, head }: SpriteKeys, damage: HobError): Promise<void> {
    const { store } = this.#storage;
    this.#log.warn({ err: damage }, "the sprite that is being destroyed is damaged in the object store; all of its own is removed");
    for await (const { key } of listAll(store, prefix)) if (key !== head) await store.delete(key);
    await store.delete(head);
  }

  /** Puts the sprites of the store that the registry does not have into it. They start at the first request. */
  async adopt(sprites: SpriteRegistry, now: () => number): Promise<void> {
    const { store, organization } = this.#storage;
    for (const { id, hasHead, hasDescription } of await listSprites(store, organization)) {
      if (!hasHead || !hasDescription || (await sprites.findById(id)) !== undefined) continue;
      try {
        const document = await readSprite(store, organization, id);
        if (document !== undefined) await this.#adoptOne(sprites, document, now());
      } catch (error) {
        this.#log.error({ sprite: id, err: error }, "a sprite of the object store cannot be taken into the registry");
      }
    }
  }

  #inTurn(spriteId: string, work: () => Promise<void>): Promise<void> {
    const turn = (this.#turns.get(spriteId) ?? Promise.resolve()).then(work, work);
    this.#turns.set(spriteId, turn);
    const leave = () => {
      if (this.#turns.get(spriteId) === turn) this.#turns.delete(spriteId);
    };
    turn.then(leave, leave);
    return turn;
  }

  async #adoptOne(sprites: SpriteRegistry, document: SpriteDocument, at: number): Promise<void> {
    const record = recordOf(document, at);
    if (!SPRITE_NAME_PATTERN.test(record.name)) throw new HobError("invalid_name", `adopt sprite ${record.id}: its name is not one`);
    await sprites.insert(record);
    await sprites.move(record.id, "creating", "ready", at);
    this.#log.info({ sprite: record.id, name: record.name }, "a sprite of the object store is in the registry now");
  }

  #documentOf(record: SpriteRecord): SpriteDocument {
    const { id, name, machineId, labels, machine, environment, urlSettings, idleTimeoutSeconds, policies } = record;
    return {
      format: "hob-sprite",
      version: 1,
      ...{ id, name, machineId, labels, machine, environment },
      organization: this.#storage.organization,
      createdAt: new Date(record.createdAt).toISOString(),
      settings: { url_settings: urlSettings, idle_timeout_seconds: idleTimeoutSeconds, policies },
    };
  }
}

/**
 * The policies that the description in an export has. Whoever imports the file may have written it: it is checked like a request,
 * and brings nothing that its sender could not set as well. One that is not understood is refused, since to leave it out
 * would let the sprite do what it could not do before.
 * @returns undefined when there is no description, or none with policies
 * @throws HobError `store_unsupported`
 */
export function exportedPolicies(description: SpriteDocument | undefined): SpritePolicies | undefined {
  const found = description?.settings.policies;
  if (found === undefined) return undefined;
  const parsed = spritePolicies.strict().safeParse(found);
  // Those of the sprite that it was are as many changes old as that sprite counted: the new one counts its own.
  if (parsed.success) return { ...parsed.data, revision: 1 };
  const { path, message } = parsed.error.issues[0] ?? { path: [], message: "" };
  throw new HobError("store_unsupported", `import a sprite: its policies are not understood: ${path.join(".")}: ${message}`, {
    hint: "the export is of a newer version of Hob, or was changed; nothing was imported",
  });
}

/** The token is this host's own: it is a secret between it and the VM that it will start. */
function recordOf(document: SpriteDocument, at: number): SpriteRecord {
  const { id, name, machineId, labels, machine, environment, createdAt } = document;
  const { url_settings, idle_timeout_seconds, policies } = settings.parse(document.settings);
  const { auth, private_access } = url_settings;
  return {
    ...{ id, name, machineId, labels, machine, environment, policies },
    state: "creating",
    urlSettings: { auth, ...(private_access === undefined ? {} : { private_access }) },
    pilotToken: randomBytes(32).toString("hex"),
    createdAt: Date.parse(createdAt),
    updatedAt: at,
    lastRunningAt: null,
    lastWarmingAt: null,
    idleTimeoutSeconds: idle_timeout_seconds,
  };
}
