import type { Readable } from "node:stream";
import type { FsckReport, GcReport, GcRequest, StorageStatus } from "@hob/protocol/api/storage.ts";
import type { Sprite } from "@hob/protocol/sprites.ts";
import { exchangeBytes, parseAnswer, textOf } from "./byte-stream.ts";
import { callJson, type Endpoint } from "./http.ts";
import { spritePath } from "./sprite-path.ts";

/** All that is dirty goes into the store; what is read or reclaimed there may be all that it holds. */
const TIMEOUT_MS = { plain: 60_000, sync: 3_600_000, create: 3_600_000, maintenance: 24 * 3_600_000 } as const;
/** Before the first byte of an export everything dirty is brought into the store. */
const SILENCE_MS = 3_600_000;

/** What is in the object store, and what is done with it. */
export class HobStorage {
  readonly #endpoint: Endpoint;

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
  }

  /** How far the store is behind. A sprite that sleeps is woken only when that is not known. */
  status(sprite: string): Promise<StorageStatus> {
    return callJson(this.#endpoint, "GET", spritePath(sprite, "storage"), { timeoutMs: TIMEOUT_MS.plain });
  }

  /** Resolves when everything that was written before is in the store. @throws HobError `conflict` | `store_unavailable` | … */
  sync(sprite: string): Promise<StorageStatus> {
    return callJson(this.#endpoint, "POST", spritePath(sprite, "sync"), { timeoutMs: TIMEOUT_MS.sync });
  }

  /** @param checkpoint undefined: the present state */
  fork(sprite: string, name: string, checkpoint: string | undefined): Promise<Sprite> {
    const body = { name, ...(checkpoint === undefined ? {} : { checkpoint }) };
    return callJson(this.#endpoint, "POST", spritePath(sprite, "fork"), { body, timeoutMs: TIMEOUT_MS.create });
  }

  /** The sprite with all its checkpoints, to be read to its end or destroyed. */
  export(sprite: string): Promise<Readable> {
    return exchangeBytes(this.#endpoint, "GET", spritePath(sprite, "export"), { silenceMs: SILENCE_MS });
  }

  /** @param content what `export` gave */
  async import(name: string, content: Readable, storageGb?: number): Promise<Sprite> {
    const query = { name, storage_gb: storageGb?.toString() };
    const path = "/v1/storage/import";
    const answer = await exchangeBytes(this.#endpoint, "POST", path, { query, body: content, silenceMs: SILENCE_MS });
    return parseAnswer<Sprite>(await textOf(answer), `POST ${path}`);
  }

  /** Reads every state in the store. @param sprite undefined: of all sprites */
  fsck(sprite?: string): Promise<FsckReport> {
    return callJson(this.#endpoint, "POST", sprite === undefined ? "/v1/storage/fsck" : spritePath(sprite, "fsck"), {
      timeoutMs: TIMEOUT_MS.maintenance,
    });
  }

  /** As `fsck`, and brings back what is damaged as far as the sprite's machine has it. @returns what is left */
  repair(sprite: string): Promise<FsckReport> {
    return callJson(this.#endpoint, "POST", `${spritePath(sprite, "fsck")}?repair=true`, { timeoutMs: TIMEOUT_MS.maintenance });
  }

  /** Removes what nothing reaches. */
  collectGarbage(request: GcRequest): Promise<GcReport> {
    return callJson(this.#endpoint, "POST", "/v1/storage/gc", { body: request, timeoutMs: TIMEOUT_MS.maintenance });
  }
}
