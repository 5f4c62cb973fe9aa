import { HobError } from "@hob/protocol";
import { encodeDocument, FORMAT_VERSION, type HeadDocument } from "../format/documents.ts";
import { checkStorageName, OrgKeys } from "../format/keys.ts";
import { readHead } from "../heads.ts";
import { requireConditionalWrites } from "../store/conditional-writes.ts";
import { retrying } from "../util/retry.ts";
import { checkUploadAge, newWriteId, ownershipLost, retryHead } from "./head-writes.ts";
import { Ownership } from "./ownership.ts";
import type { AcquireOptions, OwnershipOptions } from "./types.ts";

/**
 * Takes a sprite: its epoch grows by one, and whoever owned it before can publish nothing more.
 *
 * @throws HobError `conflict` when another owns it and `takeOver` is not set, or it exists and `create` is, `not_found`, `store_unsupported` when the
 *   store has no conditional writes, `data_damaged`, and what the store throws
 */
export async function acquire(options: AcquireOptions): Promise<Ownership> {
  const { store, org, sprite, now = () => new Date() } = options;
  await requireConditionalWrites(store);
  checkUploadAge(sprite, options.startedAt, options.now);
  const keys = new OrgKeys(org).sprite(sprite);
  /** writes that may have succeeded without an answer */
  const mine = new Set<string>();
  return await retrying(retryHead(), async () => {
    const present = await readHead(store, keys.head);
    if (present !== undefined && mine.has(present.head.writeId)) return new Ownership(options, keys, present);
    if (options.create === true && present !== undefined)
      throw new HobError("conflict", `sprite ${sprite} is in ${store.description} already`);
    const time = now().toISOString();
    const head = present === undefined ? firstHead(options, time) : nextHead(options, present.head, time);
    const condition = present === undefined ? ({ ifNoneMatch: "*" } as const) : { ifMatch: present.etag };
    mine.add(head.writeId);
    try {
      const { etag } = await store.put(keys.head, encodeDocument(head), { condition });
      return new Ownership(options, keys, { head, etag });
    } catch (error) {
      if (!(error instanceof HobError) || error.code !== "precondition_failed") throw error;
      // Another host was faster, or this one without knowing it: the next try sees which.
      throw new HobError("store_unavailable", `the head of sprite ${sprite} changed while it was taken`, { cause: error });
    }
  });
}

function firstHead(options: AcquireOptions, time: string): HeadDocument {
  if (options.initial === undefined)
    throw new HobError("not_found", `sprite ${options.sprite} is not in ${options.store.description}`, {
      hint: "`hob list` shows what is there",
    });
  const {
    volumeBytes,
    root = null,
    storedBlocks = 0,
    parent = null,
    checkpoints = [],
    lastCheckpoint = 0,
    lastAutomatic,
    origin,
    attributes,
  } = options.initial;
  return {
    format: "hob-head",
    version: FORMAT_VERSION,
    sprite: checkStorageName("sprite", options.sprite),
    owner: options.owner,
    epoch: 1,
    acquiredAt: time,
    writtenAt: time,
    writeId: newWriteId(),
    volumeBytes,
    root,
    storedBlocks,
    parent,
    checkpoints,
    lastCheckpoint,
    ...(lastAutomatic === undefined ? {} : { lastAutomatic }),
    ...(origin === undefined ? {} : { origin }),
    ...(attributes === undefined ? {} : { attributes }),
  };
}

function nextHead(options: AcquireOptions, head: HeadDocument, time: string): HeadDocument {
  if (head.owner !== options.owner && options.takeOver !== true)
    throw new HobError("conflict", `sprite ${options.sprite} belongs to host ${head.owner}`, {
      hint: "stop it there, or take it over when that host is gone for good",
      details: { owner: head.owner, epoch: head.epoch },
    });
  return { ...head, owner: options.owner, epoch: head.epoch + 1, acquiredAt: time, writtenAt: time, writeId: newWriteId() };
}

/** Goes on with an ownership that `acquire` gave, in another process. @throws HobError `ownership_lost`, `not_found` */
export async function resumeOwnership(options: OwnershipOptions & { epoch: number }): Promise<Ownership> {
  await requireConditionalWrites(options.store);
  const keys = new OrgKeys(options.org).sprite(options.sprite);
  const present = await readHead(options.store, keys.head);
  if (present === undefined) throw new HobError("not_found", `sprite ${options.sprite} is not in ${options.store.description}`);
  if (present.head.owner !== options.owner || present.head.epoch !== options.epoch) throw ownershipLost(options.sprite, present.head);
  return new Ownership(options, keys, present);
}
