import type { LedgerState } from "../volume/ledger.ts";
import { rootOf } from "./origin-name.ts";

/**
 * Roots of the maps that this machine reads what was never written here from, sorted. The heads of the sprite name them: by the
 * next upload none of its states may have such a map any more, and `gc` would take it for garbage.
 *
 * @param more origins that the ledger does not name, or not yet
 * @throws HobError `volume_unusable` if one is no map of the store
 */
export function basesOf({ live, uploaded, checkpoints }: LedgerState, more: readonly (string | null)[] = []): string[] {
  const origins = [live.origin, uploaded?.origin ?? null, ...checkpoints.map(({ origin }) => origin), ...more];
  const roots = [...new Set(origins)].map(rootOf);
  return roots.filter((root) => root !== null).sort();
}
