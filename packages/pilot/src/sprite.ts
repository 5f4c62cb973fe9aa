import { writeFile } from "node:fs/promises";
import type { Identity, ResumedRequest } from "@hob/protocol";
import { PATHS } from "./config.ts";
import type { HelperClient } from "./helper/index.ts";

/**
 * Who this sprite is, and what has to happen each time its VM wakes from a saved memory: clones of one template
 * continue with equal random state, a stopped clock and no name of their own.
 */
export class Sprite {
  readonly #helper: HelperClient;
  #token: string;
  #identity: Identity | undefined;

  constructor(helper: HelperClient, token: string, identity: Identity | undefined) {
    this.#helper = helper;
    this.#token = identity?.pilotToken ?? token;
    this.#identity = identity;
  }

  get identity(): Identity | undefined {
    return this.#identity;
  }

  /** Secret between hobd and this pilot. Comes from the host: this process's own random state may be that of a clone. */
  get token(): string {
    return this.#token;
  }

  async resumed({ entropy, wallclockMs, identity }: ResumedRequest): Promise<void> {
    await this.#helper.addEntropy(Buffer.from(entropy, "base64"));
    await this.#helper.setTime(wallclockMs);
    await this.adopt(identity);
  }

  /**
   * Takes an identity. The file is mounted over the sprite's /etc/machine-id: it changes at once inside, and no path
   * that belongs to the user is followed from out here.
   */
  async adopt(identity: Identity): Promise<void> {
    await writeFile(PATHS.machineId, `${identity.machineId}\n`, { mode: 0o444 });
    this.#identity = identity;
    this.#token = identity.pilotToken;
  }
}
