import { rm } from "node:fs/promises";
import { z } from "zod";
import { readJson, writeJson } from "../vmm/qemu/processes.ts";
import type { SpriteFiles } from "./paths.ts";
import { bootOfHost } from "./saved-state.ts";

const record = z.object({
  /** head in the object store that has everything that the sprite had when it fell asleep */
  storedAs: z.string(),
  /** the record goes before the sprite's VM starts; a crash of the host may bring it back */
  hostBoot: z.string(),
});

/** Notes which head of the store has all of a sprite that has just fallen asleep. What cannot be noted is not known: no failure. */
export async function noteRest({ rest }: SpriteFiles, storedAs: string | undefined): Promise<void> {
  if (storedAs === undefined) return;
  const value: z.infer<typeof record> = { storedAs, hostBoot: await bootOfHost() };
  await writeJson(rest, value).catch(() => {});
}

/** The head that has all of a sprite without a VM; undefined when that is not known. */
export async function readRest({ rest }: SpriteFiles): Promise<string | undefined> {
  const found = record.safeParse(await readJson(rest));
  return found.success && found.data.hostBoot === (await bootOfHost()) ? found.data.storedAs : undefined;
}

/** To be called before its VM starts. */
export const forgetRest = ({ rest }: SpriteFiles): Promise<void> => rm(rest, { force: true });
