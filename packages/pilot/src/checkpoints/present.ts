import { type Checkpoint, CURRENT } from "@hob/protocol";
import type { CheckpointRecord, LedgerState } from "../volume/ledger.ts";

interface KnownOfCheckpoints {
  /** ids */
  failedToMount: readonly string[];
  /** those that the object store has; undefined while that is not known */
  durableIds: ReadonlySet<string> | undefined;
}

/** As the API shows it. */
export function presentCheckpoint(record: CheckpointRecord, { failedToMount, durableIds }: KnownOfCheckpoints): Checkpoint {
  const { id, createTime, comment, history, automatic, reason } = record;
  const durable = durableIds?.has(id);
  return {
    id,
    create_time: createTime,
    comment,
    source_id: history[0] ?? "",
    health: failedToMount.includes(id) ? "mount_failed" : "",
    history,
    is_auto: automatic,
    ...(reason === null ? {} : { reason }),
    ...(durable === undefined ? {} : { durable }),
  };
}

/** The live state. */
export function presentCurrent({ live: { history } }: LedgerState, now: Date): Checkpoint {
  return { id: CURRENT, create_time: now.toISOString(), comment: "", source_id: history[0] ?? "", health: "", history, is_auto: false };
}
