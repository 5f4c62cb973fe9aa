import { HobError } from "@hob/protocol";
import type { MapRoot } from "@hob/storage";

const PREFIX = "map:";

/** How the ledger names the map of the store that a volume reads from where it was never written. */
export const originOf = (root: MapRoot): string | null => (root === null ? null : `${PREFIX}${root}`);

/** The map that an origin names; null, which is all zeros, for none. @throws HobError `volume_unusable` */
export function rootOf(origin: string | null): MapRoot {
  if (origin === null) return null;
  const root = origin.startsWith(PREFIX) ? origin.slice(PREFIX.length) : "";
  if (/^[0-9a-f]{64}$/.test(root)) return root;
  throw new HobError("volume_unusable", `open a volume over ${origin.slice(0, 100)}: that is no map of the store`);
}
