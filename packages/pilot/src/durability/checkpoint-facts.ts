import type { CheckpointFacts } from "@hob/storage";
import type { CheckpointRecord } from "../volume/ledger.ts";

/** What the document of a checkpoint says beside its map. */
export const factsOf = ({ comment, createTime, automatic, reason, history }: CheckpointRecord): CheckpointFacts => ({
  ...{ comment, createdAt: createTime, automatic, parent: history[0] ?? null, ...(reason === null ? {} : { reason }) },
  attributes: { history: JSON.stringify(history) },
});
