import { HobError } from "@hob/protocol";
import type { HeadDocument } from "../format/documents.ts";
import { OrgKeys } from "../format/keys.ts";
import { type ReadHead, readCheckpoint, readHead } from "../heads.ts";
import { copyStart } from "../start-record.ts";
import { acquire } from "./acquire.ts";
import type { Ownership } from "./ownership.ts";
import type { InitialState, OwnershipOptions } from "./types.ts";

export interface ForkOptions extends OwnershipOptions {
  /** sprite that the new one comes from */
  source: string;
  /** missing: its newest durable state */
  checkpoint?: string;
  attributes?: Record<string, string>;
}

/** The state of a busy sprite may move on while a fork is made of it. */
const ATTEMPTS = 5;

/**
 * Makes the storage of a new sprite from another's, in the same organization: one head, whatever the size.
 *
 * The new head is written first, and the old one read again after: if it names the root no more, `gc` may have seen neither.
 * Then the new head is taken back (docs/formats/storage.md).
 *
 * @throws HobError `not_found`; `conflict` when the new sprite exists, or the source does not hold still; as `acquire`
 */
export async function forkSprite(options: ForkOptions): Promise<Ownership> {
  const { store, org, source, checkpoint } = options;
  const keys = new OrgKeys(org).sprite(source);
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const before = requireHead(options, await readHead(store, keys.head));
    const initial = await initialState(options, before);
    const fork = await acquire({ ...options, initial, create: true });
    const after = await readHead(store, keys.head);
    if (after !== undefined && names(before, after.head, checkpoint)) {
      await copyStart(store, keys, fork.keys, options.sprite);
      return fork;
    }
    await fork.destroy();
  }
  const what = checkpoint === undefined ? "its state changes all the time" : `checkpoint ${checkpoint} was deleted`;
  throw new HobError("conflict", `cannot fork sprite ${source}: ${what}`, { hint: "make a checkpoint and fork that" });
}

async function initialState({ store, org, source, checkpoint, attributes }: ForkOptions, head: HeadDocument): Promise<InitialState> {
  const from = checkpoint === undefined ? head : await readCheckpoint(store, new OrgKeys(org).sprite(source), head, checkpoint);
  return {
    volumeBytes: from.volumeBytes,
    root: from.root,
    storedBlocks: from.storedBlocks,
    origin: { sprite: source, checkpoint: checkpoint ?? null },
    ...(attributes === undefined ? {} : { attributes }),
  };
}

/** Whether what was forked is still named by the source's head. */
function names(before: HeadDocument, after: HeadDocument, checkpoint: string | undefined): boolean {
  if (checkpoint === undefined) return after.root === before.root;
  const document = before.checkpoints.find(({ id }) => id === checkpoint)?.document;
  return after.checkpoints.some((entry) => entry.id === checkpoint && entry.document === document);
}

function requireHead({ source, store }: ForkOptions, present: ReadHead | undefined): HeadDocument {
  if (present === undefined) throw new HobError("not_found", `sprite ${source} is not in ${store.description}`);
  return present.head;
}
