import { HobError } from "../errors.ts";
import { type Checkpoint, CURRENT, checkpointQuery } from "./checkpoints.ts";

/** What `GET /checkpoints` is asked for. */
export interface CheckpointFilter {
  includeAuto?: boolean;
  /** only this checkpoint and those that derive from it, without the live state */
  history?: string | undefined;
}

/** @throws HobError `invalid_request` */
export function parseCheckpointFilter(parameters: Readonly<Record<string, string>>): CheckpointFilter {
  const query = checkpointQuery.safeParse(parameters);
  if (!query.success)
    throw new HobError("invalid_request", `list checkpoints: parameter ${query.error.issues[0]?.path.join(".")} is not valid`);
  const { includeAuto, history } = query.data;
  return { includeAuto: includeAuto === "true" || includeAuto === "1", history: history || undefined };
}

/** Of all that a sprite has, what the list shows, in the same order. */
export function selectCheckpoints(all: readonly Checkpoint[], { includeAuto = false, history }: CheckpointFilter): Checkpoint[] {
  const isWanted = ({ id, is_auto, history: ancestors }: Checkpoint) => {
    if (id === CURRENT) return history === undefined;
    return (includeAuto || !is_auto) && (history === undefined || id === history || ancestors.includes(history));
  };
  return all.filter(isWanted);
}

export const checkpointNotFound = (id: string): HobError =>
  new HobError("not_found", `checkpoint not found: ${id.slice(0, 80)}`, { hint: "list the checkpoints" });
