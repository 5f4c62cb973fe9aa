import { HobError } from "@hob/protocol";
import { encodeDocument, FORMAT_VERSION, type HeadDocument } from "../format/documents.ts";
import { checkStorageName, OrgKeys, type SpriteKeys } from "../format/keys.ts";
import { type ReadHead, readHead } from "../heads.ts";
import { requireConditionalWrites } from "../store/conditional-writes.ts";
import { checkUploadAge, HEAD_ATTEMPTS, newWriteId, ownershipLost, readHeadAgain } from "./head-writes.ts";
import { Ownership } from "./ownership.ts";
import type { AcquireOptions, OwnershipOptions } from "./types.ts";

/**
 * Takes a sprite: its epoch grows by one, and whoever owned it before can publish nothing more.
 *
 * @throws HobError `conflict` when another owns it and `takeOver` is not set, `not_found`, `store_unsupported` when the
 *   store has no conditional writes, `data_damaged`, and what the store throws
 */
export async function acquire(options: AcquireOptions): Promise<Ownership> {
  await requireConditionalWrites(options.store);
  checkUploadAge(options.sprite, options.startedAt, options.now);
  const keys = new OrgKeys(options.org).sprite(options.sprite);
  for (let attempt = 1; attempt <= HEAD_ATTEMPTS; attempt++) {
    const present = await readHead(options.store, keys.head);
    if (options.create === true && present !== undefined)
      throw new HobError("conflict", `sprite ${options.sprite} is in ${options.store.description} already`);
    const written = await tryToAcquire(options, keys, present);
    if (written !== undefined) return new Ownership(options, keys, written);
  }
  throw new HobError("conflict", `cannot take sprite ${options.sprite}: other hosts keep taking it too`, { hint: "let one host run it" });
}

/** undefined when another was faster. */
async function tryToAcquire(options: AcquireOptions, keys: SpriteKeys, present: ReadHead | undefined): Promise<ReadHead | undefined> {
  const time = (options.now?.() ?? new Date()).toISOString();
  const head = present === undefined ? firstHead(options, time) : nextHead(options, present.head, time);
  try {
    const condition = present === undefined ? ({ ifNoneMatch: "*" } as const) : { ifMatch: present.etag };
    const { etag } = await options.store.put(keys.head, encodeDocument(head), { condition });
    return { head, etag };
  } catch (error) {
    if (!isUncertain(error)) throw error;
    // The write may have succeeded without an answer.
    const after = await readHeadAgain(options.store, keys.head);
    if (after?.head.writeId === head.writeId) return after;
    if (error instanceof HobError && error.code === "precondition_failed") return undefined;
    throw error;
  }
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

const isUncertain = (error: unknown): boolean => error instanceof HobError && (error.code === "precondition_failed" || error.retryable);
