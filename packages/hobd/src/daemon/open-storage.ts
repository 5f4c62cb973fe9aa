import { openStore } from "@hob/storage/store/open-store.ts";
import type { Logger } from "pino";
import { SpriteStorage } from "../object-store/sprite-storage.ts";
import { WatchedStore, type WatchTimes } from "../object-store/watched-store.ts";
import { ORGANIZATION } from "../tokens/token-format.ts";
import type { DaemonConfig } from "./config.ts";
import { ensureHostId, type HomeLayout, hasUsedStore, noteUsedStore } from "./home.ts";

export interface OpenStorageParts {
  home: HomeLayout;
  config: DaemonConfig;
  overrides: {
    /** where credentials are looked for */
    environment?: Readonly<Record<string, string | undefined>>;
    storeTimes?: Partial<WatchTimes>;
  };
  log: Logger;
  undo: AsyncDisposableStack;
}

export interface OpenedStorage {
  storage: SpriteStorage;
  store: WatchedStore;
}

/**
 * A store in which two hosts could own one sprite is refused before anything is written there. One that does not answer is waited for only
 * when this home has used it before: else it is more likely that its description is wrong, and there is nothing to be served without it.
 */
export async function openStorage({ home, config, overrides, log, undo }: OpenStorageParts): Promise<OpenedStorage> {
  const { environment = {}, storeTimes } = overrides;
  const exists = hasUsedStore(home, config.store);
  const store = undo.use(new WatchedStore(await openStore(config.store, environment, { exists }), log, storeTimes));
  await store.start(exists);
  store.fit.then(() => noteUsedStore(home, config.store)).catch((err) => log.error({ err }, "the store is not noted as used"));
  log.info({ store: store.description, health: store.health }, "object store");
  return { store, storage: new SpriteStorage({ store, organization: ORGANIZATION, owner: ensureHostId(home), log }) };
}
