import { randomBytes } from "node:crypto";
import { HobError } from "@hob/protocol";
import type { HeadDocument } from "../format/documents.ts";
import { type ReadHead, readHead } from "../heads.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { type RetryOptions, retrying } from "../util/retry.ts";
import { MAX_UPLOAD_AGE_MS } from "./types.ts";

/** Reads and writes of the head before a disturbed store is given up; some 15 s. */
const HEAD_ATTEMPTS = 8;

export const retryHead = (signal?: AbortSignal): RetryOptions => ({
  attempts: HEAD_ATTEMPTS,
  firstPauseMs: 100,
  longestPauseMs: 5000,
  signal,
});

export const readHeadAgain = (store: ObjectStore, key: string): Promise<ReadHead | undefined> =>
  retrying(retryHead(), () => readHead(store, key));

export const newWriteId = (): string => randomBytes(16).toString("hex");

export function ownershipLost(sprite: string, head: HeadDocument | undefined): HobError {
  const now = head === undefined ? "it was deleted" : `host ${head.owner} has it with epoch ${head.epoch}`;
  return new HobError("ownership_lost", `sprite ${sprite} is not this host's any more: ${now}`, {
    hint: "this host's copy is out of date; remove it and start the sprite where it is now",
    ...(head === undefined ? {} : { details: { owner: head.owner, epoch: head.epoch } }),
  });
}

/** @throws HobError `conflict` when `gc` may have taken the upload for abandoned */
export function checkUploadAge(sprite: string, startedAt: number | undefined, now: (() => Date) | undefined): void {
  const ageMs = startedAt === undefined ? 0 : (now?.() ?? new Date()).getTime() - startedAt;
  if (ageMs > MAX_UPLOAD_AGE_MS)
    throw new HobError("conflict", `the upload for sprite ${sprite} took ${Math.round(ageMs / 3_600_000)} hours`, {
      hint: "upload in smaller steps",
    });
}
