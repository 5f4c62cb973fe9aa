import { createHash } from "node:crypto";
import { HobError } from "@hob/protocol";
import type { ObjectStore, PutCondition } from "@hob/storage/store/object-store.ts";
import { z } from "zod";

/** What one VM may do in the store: the objects of its sprite, and of its organization what it knows the hash of. */
export interface Grant {
  readonly organization: string;
  readonly spriteId: string;
  readonly owner: string;
  readonly epoch: number;
  /** reads history and writes nothing */
  readonly readOnly: boolean;
}

const SHARED = /^(packs|maps)\/([0-9a-f]{64})$/;
const CHECKPOINT = /^checkpoints\/[A-Za-z0-9._-]{1,128}\.json$/;

type Place = { kind: "shared"; hash: string } | { kind: "checkpoint" } | { kind: "head" };

/**
 * The part of the store that a grant opens. What is outside of it does not exist. Packs and maps are an organization's,
 * named by their hash, and cannot be listed: whoever can name one has it already, or is a fork of a sprite that has.
 * What is written must be what its name says, and only once, so no sprite can change what another one reads.
 */
export class GrantedStore {
  readonly #store: ObjectStore;
  readonly #grant: Grant;

  constructor(store: ObjectStore, grant: Grant) {
    this.#store = store;
    this.#grant = grant;
  }

  async get(key: string, range: { offset: number; length: number } | undefined, signal: AbortSignal) {
    return this.#placeOf(key) === undefined ? undefined : this.#store.get(key, { ...(range === undefined ? {} : { range }), signal });
  }

  async head(key: string, signal: AbortSignal) {
    return this.#placeOf(key) === undefined ? undefined : this.#store.head(key, { signal });
  }

  async list(prefix: string, after: string | undefined, limit: number | undefined, signal: AbortSignal) {
    if (!prefix.startsWith(`${this.#sprite}checkpoints/`)) throw outside(prefix);
    return this.#store.list(prefix, { ...(after === undefined ? {} : { after }), ...(limit === undefined ? {} : { limit }), signal });
  }

  async put(key: string, data: Buffer, condition: PutCondition | undefined, signal: AbortSignal) {
    const place = this.#writable(key);
    if (place.kind === "shared") {
      if (createHash("sha256").update(data).digest("hex") !== place.hash) {
        throw new HobError("invalid_request", `write ${key}: the bytes are not those of its name`);
      }
      // The same bytes under the same name: whoever came first, the object is there.
      return this.#store.put(key, data, { condition: { ifNoneMatch: "*" }, signal }).catch((error: unknown) => {
        if (error instanceof HobError && error.code === "precondition_failed") return this.#existing(key, signal);
        throw error;
      });
    }
    if (place.kind === "head") {
      if (condition === undefined || !("ifMatch" in condition)) throw new HobError("invalid_request", `write ${key}: If-Match expected`);
      this.#checkHead(data);
    } else await this.#checkOwnership(signal);
    return this.#store.put(key, data, { ...(condition === undefined ? {} : { condition }), signal });
  }

  async delete(key: string, signal: AbortSignal): Promise<void> {
    if (this.#writable(key).kind !== "checkpoint") throw outside(key);
    await this.#checkOwnership(signal);
    await this.#store.delete(key, { signal });
  }

  get #sprite(): string {
    return `orgs/${this.#grant.organization}/sprites/${this.#grant.spriteId}/`;
  }

  #placeOf(key: string): Place | undefined {
    const organization = `orgs/${this.#grant.organization}/`;
    const shared = key.startsWith(organization) ? SHARED.exec(key.slice(organization.length)) : null;
    if (shared !== null) return { kind: "shared", hash: shared[2] ?? "" };
    if (!key.startsWith(this.#sprite)) return undefined;
    const rest = key.slice(this.#sprite.length);
    return rest === "head.json" ? { kind: "head" } : CHECKPOINT.test(rest) ? { kind: "checkpoint" } : undefined;
  }

  #writable(key: string): Place {
    const place = this.#placeOf(key);
    if (place === undefined || this.#grant.readOnly) throw outside(key);
    return place;
  }

  async #existing(key: string, signal: AbortSignal) {
    const found = await this.#store.head(key, { signal });
    if (found === undefined) throw new HobError("store_unavailable", `write ${key}: it was there and is gone`);
    return { etag: found.etag };
  }

  /** A head names its writer: a VM can publish for itself only. */
  #checkHead(data: Buffer): void {
    const { owner, epoch } = parseWriter(data);
    if (owner !== this.#grant.owner || epoch !== this.#grant.epoch) throw this.#lost();
  }

  /** Checkpoint documents carry no condition, so the head is asked. */
  async #checkOwnership(signal: AbortSignal): Promise<void> {
    const head = await this.#store.get(`${this.#sprite}head.json`, { signal });
    if (head === undefined) throw this.#lost();
    this.#checkHead(head.data);
  }

  #lost(): HobError {
    return new HobError("ownership_lost", `write for sprite ${this.#grant.spriteId}: another host has taken it over`);
  }
}

const writer = z.object({ owner: z.string().nullable(), epoch: z.number() });

function parseWriter(data: Buffer): z.infer<typeof writer> {
  try {
    return writer.parse(JSON.parse(data.toString("utf8")));
  } catch (cause) {
    throw new HobError("invalid_request", "write head: it is malformed", { cause });
  }
}

const outside = (key: string): HobError => new HobError("not_found", `object ${key.slice(0, 200)}: not of this sprite`);
