import { CURRENT, HobError, type StoredHistory } from "@hob/protocol";
import { type ObjectStore, OrgKeys, readCheckpoint, readHead } from "@hob/storage";
import type { CheckpointRecord } from "../volume/ledger.ts";
import type { ThinVolume } from "../volume/thin-volume.ts";
import { recordOf } from "./cold-start.ts";
import { originOf } from "./origin-name.ts";

export interface StoredStatesParts {
  store: ObjectStore;
  volume: { ledger: Pick<ThinVolume["ledger"], "reserveThin">; pool: Pick<ThinVolume["pool"], "createThin"> };
  history: StoredHistory;
}

/**
 * States of a sprite as the object store has them, found when they are asked for: each becomes an empty thin device over its
 * map, and nothing of them is in the ledger, which is that of the template.
 */
export class StoredStates {
  readonly #parts: StoredStatesParts;
  readonly #found = new Map<string, CheckpointRecord>();

  constructor(parts: StoredStatesParts) {
    this.#parts = parts;
  }

  /** Whose states they are. */
  get history(): StoredHistory {
    return this.#parts.history;
  }

  /** A checkpoint, or `CURRENT`; undefined when the store has none of this id. Not together with another call. */
  async find(id: string): Promise<CheckpointRecord | undefined> {
    const known = this.#found.get(id);
    if (known !== undefined) return known;
    const record = id === CURRENT ? await this.#current() : await this.#checkpoint(id);
    if (record !== undefined) this.#found.set(id, record);
    return record;
  }

  async #current(): Promise<CheckpointRecord> {
    const thin = await this.#makeThin();
    const origin = originOf(this.#parts.history.root);
    return { id: CURRENT, thin, origin, createTime: new Date(0).toISOString(), comment: "", history: [], automatic: true, reason: null };
  }

  async #checkpoint(id: string): Promise<CheckpointRecord | undefined> {
    const { store, history } = this.#parts;
    const keys = new OrgKeys(history.organization).sprite(history.spriteId);
    const found = await readHead(store, keys.head);
    if (found === undefined) throw new HobError("not_found", `read sprite ${history.spriteId} from the object store: it is not there`);
    if (!found.head.checkpoints.some((checkpoint) => checkpoint.id === id)) return undefined;
    return recordOf(await readCheckpoint(store, keys, found.head, id), await this.#makeThin());
  }

  /** Its number stays pending in the ledger: should the pilot end, its successor removes it. */
  async #makeThin(): Promise<number> {
    const { ledger, pool } = this.#parts.volume;
    const thin = await ledger.reserveThin();
    await pool.createThin(thin);
    return thin;
  }
}
