import { HobError, type StorageAssignment } from "@hob/protocol";
import {
  automaticNumberOf,
  type CheckpointDocument,
  type HeadDocument,
  type ObjectStore,
  OrgKeys,
  readCheckpoint,
  readHead,
  type SpriteKeys,
} from "@hob/storage";
import { z } from "zod";
import { type CheckpointRecord, settle } from "../volume/ledger.ts";
import type { ThinVolume } from "../volume/thin-volume.ts";
import type { SwitchOptions, TreeSwitch } from "../volume/tree-switch.ts";
import { originOf } from "./origin-name.ts";

export interface ColdStartParts {
  store: ObjectStore;
  volume: ThinVolume;
  treeSwitch: Pick<TreeSwitch, "stage" | "switchToStaged" | "discard">;
}

const DOCUMENTS_AT_ONCE = 8;
const history = z.array(z.string()).max(100);

/**
 * Puts the sprite that the store has in place of the empty one of the template: its checkpoints, and a live volume that
 * reads from the store what was not written here. It takes as long as a restore, whatever the size. May be repeated: what
 * is there already stays, and the ledger says when all of it is.
 */
export async function coldStart({ store, volume, treeSwitch }: ColdStartParts, assignment: StorageAssignment): Promise<void> {
  const { base, organization, spriteId } = assignment;
  if (base === undefined || volume.ledger.state.basis === originOf(base.root)) return;
  const origin = originOf(base.root);
  if (origin === null) return;
  const keys = new OrgKeys(organization).sprite(spriteId);
  const isStaged = volume.ledger.state.live.origin === origin;
  // Side by side: one waits for the store where the other waits for the disk.
  const [staged, adopted] = await Promise.allSettled([
    isStaged ? undefined : treeSwitch.stage({ origin }),
    adoptHistory(store, keys, volume, assignment),
  ]);
  if (staged.status === "rejected") throw staged.reason;
  if (adopted.status === "rejected") {
    if (staged.value !== undefined) await treeSwitch.discard(staged.value);
    throw adopted.reason;
  }
  if (staged.value !== undefined) await treeSwitch.switchToStaged(staged.value, adopted.value);
  await volume.ledger.update((state) => ({ ...state, basis: origin }));
}

/** The checkpoints. @returns those that the live volume derives from, nearest first, and the one that `undo` goes to, if it is there */
async function adoptHistory(
  store: ObjectStore,
  keys: SpriteKeys,
  volume: ThinVolume,
  { spriteId, base }: StorageAssignment,
): Promise<SwitchOptions> {
  const found = await readHead(store, keys.head);
  if (found === undefined) throw new HobError("not_found", `start sprite ${spriteId} from the object store: it is not there`);
  const { head } = found;
  if (head.volumeBytes !== base?.volumeBytes)
    throw new HobError("volume_unusable", "start from the object store: the volume has another size");
  await adoptCheckpoints(volume, head, (id) => readCheckpoint(store, keys, head, id));
  const undo = head.checkpoints.find(({ id }) => id === head.attributes?.undo)?.id ?? null;
  return { history: parseHistory(head.attributes) ?? (head.parent === null ? [] : [head.parent]), undo };
}

/**
 * Each becomes an empty thin device over its map: it costs nothing until somebody looks at it. One update of the ledger for
 * all of them; until then the devices are pending.
 */
async function adoptCheckpoints(
  volume: ThinVolume,
  head: HeadDocument,
  documentOf: (id: string) => Promise<CheckpointDocument>,
): Promise<void> {
  const missing = head.checkpoints.filter(({ id }) => volume.ledger.find(id) === undefined);
  const records: CheckpointRecord[] = [];
  try {
    for (let at = 0; at < missing.length; at += DOCUMENTS_AT_ONCE) {
      const documents = await Promise.all(missing.slice(at, at + DOCUMENTS_AT_ONCE).map(({ id }) => documentOf(id)));
      for (const document of documents) {
        const thin = await volume.ledger.reserveThin();
        records.push(recordOf(document, thin));
        await volume.pool.createThin(thin);
      }
    }
  } catch (error) {
    for (const { thin } of records) volume.ledger.release(thin);
    throw error;
  }
  // A head of an older version does not say of those that are gone.
  const automatic = [head.lastAutomatic ?? 0, ...head.checkpoints.map(({ id }) => automaticNumberOf(id) ?? 0)];
  await volume.ledger.update((state) => ({
    ...state,
    checkpoints: [...state.checkpoints, ...records],
    pending: settle(state, ...records.map(({ thin }) => thin)),
    nextVersion: Math.max(state.nextVersion, head.lastCheckpoint + 1),
    nextAutomatic: Math.max(state.nextAutomatic, ...automatic.map((number) => number + 1)),
  }));
}

export function recordOf(document: CheckpointDocument, thin: number): CheckpointRecord {
  const { id, comment, createdAt, automatic, reason, parent, root, attributes } = document;
  return {
    ...{ id, thin, comment, automatic, createTime: createdAt, reason: reason ?? null, origin: originOf(root) },
    history: parseHistory(attributes) ?? (parent === null ? [] : [parent]),
  };
}

function parseHistory(attributes: Record<string, string> | undefined): string[] | undefined {
  try {
    return history.parse(JSON.parse(attributes?.history ?? ""));
  } catch {
    return undefined;
  }
}
