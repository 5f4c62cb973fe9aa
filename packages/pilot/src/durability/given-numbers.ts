import { type HeadChange, type HeadDocument, numberOf } from "@hob/storage";
import type { LedgerState } from "../volume/ledger.ts";

/** Next free numbers of checkpoints. */
export type NextNumbers = Pick<LedgerState, "nextVersion" | "nextAutomatic">;

type Given = Pick<HeadChange, "lastCheckpoint" | "lastAutomatic">;

/**
 * The largest numbers that checkpoints of the sprite were ever given, for the head to know when all that had them are gone. One that is still
 * to be brought into the store must come after what the head says.
 *
 * @param pending checkpoints that the head does not name yet
 */
export function givenNumbers({ nextVersion, nextAutomatic }: NextNumbers, head: HeadDocument, pending: readonly { id: string }[]): Given {
  const before = pending.flatMap(({ id }) => numberOf(id) ?? []).map((number) => number - 1);
  const lastAutomatic = Math.max(head.lastAutomatic ?? 0, nextAutomatic - 1);
  return {
    lastCheckpoint: Math.max(head.lastCheckpoint, Math.min(nextVersion - 1, ...before)),
    ...(lastAutomatic === 0 ? {} : { lastAutomatic }),
  };
}

/** Whether the head knows as much already. */
export const knowsNumbers = (
  { lastCheckpoint, lastAutomatic = 0 }: HeadDocument,
  { lastCheckpoint: version = 0, lastAutomatic: automatic = 0 }: Given,
): boolean => lastCheckpoint >= version && lastAutomatic >= automatic;
