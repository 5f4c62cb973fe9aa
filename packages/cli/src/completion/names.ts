import { existsSync } from "node:fs";
import type { HobClient } from "@hob/client";
import type { FileEntry } from "@hob/protocol/api/files.ts";
import type { Sprite } from "@hob/protocol/sprites.ts";
import type { Cli } from "../cli.ts";
import { type GlobalFlags, resolveHome } from "../config.ts";
import { printable } from "../output/format.ts";
import { findSpriteFile } from "../sprite-file.ts";
import type { Candidate } from "./candidates.ts";

/** A person who has pressed Tab waits: without an answer by then there are no names. */
const TIMEOUT_MS = 1_000;
/** A sprite that works hard takes longer than the daemon. */
const INSIDE_TIMEOUT_MS = 2_000;
const SPRITES_MAX = 500;
const DESCRIPTION_LENGTH_MAX = 60;

/** Names of what exists. None of them throws: what cannot be had now is nothing to offer. */
export interface Names {
  sprites(): Promise<Candidate[]>;
  sessions(sprite: string): Promise<Candidate[]>;
  checkpoints(sprite: string): Promise<Candidate[]>;
  services(sprite: string): Promise<Candidate[]>;
  tokens(): Promise<Candidate[]>;
  /** entries of a folder of a sprite, or of one of its checkpoints; folders end with a slash */
  files(sprite: string, checkpoint: string | undefined, folder: string): Promise<Candidate[]>;
  /** the sprite of this folder */
  spriteHere(): string | undefined;
}

/**
 * What a sprite said of itself is offered only where a shell takes it for one plain word: whatever it says, nobody runs
 * it by pressing Tab.
 */
const PLAIN = /^[A-Za-z0-9._+-]+\/?$/;

/** Asks the daemon. A sprite that sleeps is not woken for a completion: of what it holds nothing is offered. */
export class DaemonNames implements Names {
  readonly #cli: Cli;
  readonly #flags: GlobalFlags;

  constructor(cli: Cli, flags: GlobalFlags) {
    this.#cli = cli;
    this.#flags = flags;
  }

  sprites(): Promise<Candidate[]> {
    return inTime(async () => (await listed(await this.#client(), undefined)).map(({ name }) => ({ value: name, description: "sprite" })));
  }

  sessions(sprite: string): Promise<Candidate[]> {
    return this.#inside(sprite, async (client) => (await client.sessions(sprite)).map(({ id, command }) => candidate(id, command)));
  }

  checkpoints(sprite: string): Promise<Candidate[]> {
    return this.#inside(sprite, async (client) => {
      const all = await (await client.checkpoints(sprite)).list({ includeAuto: true });
      return all
        .filter(({ id }) => id !== "Current")
        .map(({ id, comment, reason, create_time }) => candidate(id, comment || `${reason ?? "checkpoint"}, ${create_time}`));
    });
  }

  services(sprite: string): Promise<Candidate[]> {
    return this.#inside(sprite, async (client) =>
      (await (await client.services(sprite)).list()).map(({ name, state }) => candidate(name, `service, ${state.status}`)),
    );
  }

  /** They are of the home, and need no daemon. */
  async tokens(): Promise<Candidate[]> {
    try {
      const home = resolveHome(this.#flags, this.#cli.env);
      if (!existsSync(home)) return [];
      const { listHomeTokens } = await import("@hob/hobd");
      const valid = (await listHomeTokens(home)).filter(({ revokedAt }) => revokedAt === null);
      return valid.map(({ id, description }) => candidate(id, description));
    } catch {
      return [];
    }
  }

  files(sprite: string, checkpoint: string | undefined, folder: string): Promise<Candidate[]> {
    return this.#inside(sprite, async (client) => {
      const entries =
        checkpoint === undefined
          ? await (await client.files(sprite)).list(folder)
          : await (await client.checkpoints(sprite)).files(checkpoint, folder);
      return entries.map((entry: FileEntry) => candidate(`${entry.name}${entry.isDir ? "/" : ""}`, entry.isDir ? "folder" : "file"));
    });
  }

  spriteHere(): string | undefined {
    try {
      return findSpriteFile(process.cwd())?.sprite;
    } catch {
      return undefined;
    }
  }

  #client(): Promise<HobClient> {
    return this.#cli.client(this.#flags);
  }

  #inside(sprite: string, ask: (client: HobClient) => Promise<Candidate[]>): Promise<Candidate[]> {
    return inTime(async () => {
      const client = await this.#client();
      const found = (await listed(client, sprite)).find(({ name }) => name === sprite);
      if (found?.status !== "running") return [];
      return (await ask(client)).filter(({ value }) => PLAIN.test(value));
    }, INSIDE_TIMEOUT_MS);
  }
}

const listed = async (client: HobClient, prefix: string | undefined): Promise<Sprite[]> =>
  (await client.listPage({ prefix, pageSize: SPRITES_MAX, timeoutMs: TIMEOUT_MS })).sprites;

const candidate = (value: string, description: string): Candidate => ({
  value,
  description: printable(description).trim().slice(0, DESCRIPTION_LENGTH_MAX),
});

/** No daemon, no token, no answer: then there is nothing to offer, and nothing to say in the middle of a line. */
async function inTime(ask: () => Promise<Candidate[]>, timeoutMs = TIMEOUT_MS): Promise<Candidate[]> {
  const nothing = new Promise<Candidate[]>((resolve) => setTimeout(() => resolve([]), timeoutMs).unref());
  return await Promise.race([ask().catch(() => []), nothing]);
}
