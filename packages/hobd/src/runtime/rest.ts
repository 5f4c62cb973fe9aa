import { rm } from "node:fs/promises";
import { checkpoint, type FreezeResponse, type StorageLag, storageStatus } from "@hob/protocol";
import { z } from "zod";
import { readJson, writeJson } from "../vmm/qemu/processes.ts";
import type { SpriteFiles } from "./paths.ts";
import { bootOfHost } from "./saved-state.ts";
import type { Rest } from "./sprite-runtime.ts";

const record = z.object({
  /** head in the object store that has everything that the sprite had when it fell asleep */
  storedAs: z.string().optional(),
  /** the record goes before the sprite's VM starts; a crash of the host may bring it back */
  hostBoot: z.string(),
  /** what its pilot said last, and when, Unix milliseconds */
  said: z.object({ at: z.number(), checkpoints: z.array(checkpoint), storage: storageStatus }).optional(),
  /** what the object store lacks; `since`: of the oldest write, Unix milliseconds */
  behind: z.object({ since: z.number(), checkpoints: z.number(), error: z.string().nullable() }).optional(),
});
type RestRecord = z.infer<typeof record>;

/** What is known of a sprite without a VM. */
export type KnownRest = Pick<Rest, "storedAs" | "said" | "behind">;

/**
 * Notes what is known of a sprite that is about to be saved. What cannot be noted is not known: no failure.
 * @param said undefined: its pilot did not answer
 * @param lag what the store lacked a moment ago, for a pilot that does not say what it lacks now
 */
export async function noteRest({ rest }: SpriteFiles, said: FreezeResponse | undefined, lag: StorageLag | null): Promise<void> {
  const at = Date.now();
  const { storedAs, checkpoints, storage } = said ?? {};
  const lacking = lagOf(said, lag);
  const value: RestRecord = {
    hostBoot: await bootOfHost(),
    ...(storedAs == null ? {} : { storedAs }),
    ...(checkpoints == null || storage === undefined ? {} : { said: { at, checkpoints, storage } }),
    ...(lacking === null ? {} : { behind: { since: at - lacking.lagMs, checkpoints: lacking.checkpoints, error: lacking.error } }),
  };
  await writeJson(rest, value).catch(() => {});
}

/** What the store lacks: as the pilot says now, else as it said a moment ago. */
export const lagOf = (said: FreezeResponse | undefined, before: StorageLag | null): StorageLag | null =>
  said?.lag === undefined ? before : said.lag;

/**
 * What was noted. After a crash of the host it may be of an earlier sleep: then it is not known what the sprite has, but that something may
 * be missing in the store is better believed once too often.
 */
export async function readRest({ rest }: SpriteFiles): Promise<KnownRest> {
  const found = record.safeParse(await readJson(rest));
  const { storedAs, said, behind, hostBoot } = found.success ? found.data : {};
  return hostBoot === (await bootOfHost()) ? { storedAs, said, behind } : { storedAs: undefined, said: undefined, behind };
}

/** To be called before its VM runs. */
export const forgetRest = ({ rest }: SpriteFiles): Promise<void> => rm(rest, { force: true });
