import { HobError } from "@hob/protocol";
import type { TokenRegistry } from "../registry/registry.ts";
import { parseToken, secretMatches } from "./token-format.ts";

/** Milliseconds between writes of the times of last use: a request never waits for that write. */
const FLUSH_INTERVAL_MS = 60_000;

/** Compared against when there is no such token, so that a guess of an id takes as long as a guess of a secret. */
const NO_HASH = "0".repeat(64);

export interface Authenticated {
  tokenId: string;
}

/**
 * Decides whether a request may pass. Reads the registry each time, so that a token revoked by another process is
 * refused at once. Times of last use are gathered in memory and written once a minute and at the end.
 */
export class Authenticator implements AsyncDisposable {
  readonly #tokens: TokenRegistry;
  readonly #now: () => number;
  readonly #lastUsed = new Map<string, number>();
  readonly #timer: NodeJS.Timeout;

  constructor(tokens: TokenRegistry, now: () => number = Date.now) {
    this.#tokens = tokens;
    this.#now = now;
    this.#timer = setInterval(() => void this.flush().catch(() => {}), FLUSH_INTERVAL_MS);
    this.#timer.unref();
  }

  /**
   * @param authorization the header's value, `Bearer <token>`; the scheme's case does not matter (RFC 9110 section 11.1)
   * @throws HobError `unauthorized`
   */
  async authenticate(authorization: string | undefined): Promise<Authenticated> {
    const [, text] = /^bearer +(\S+) *$/i.exec(authorization ?? "") ?? [];
    if (text === undefined) throw unauthorized("no bearer token was sent");
    const parts = parseToken(text);
    const record = parts === undefined ? undefined : await this.#tokens.findToken(parts.id);
    const matches = secretMatches(parts?.secret ?? "", record?.secretHash ?? NO_HASH);
    if (record === undefined || !matches || record.revokedAt !== null) throw unauthorized("the token is unknown or revoked");
    this.#lastUsed.set(record.id, this.#now());
    return { tokenId: record.id };
  }

  /** Whether a token that was seen before may still be acted for. Counts as a use of it. */
  async isActive(tokenId: string): Promise<boolean> {
    const record = await this.#tokens.findToken(tokenId);
    if (record === undefined || record.revokedAt !== null) return false;
    this.#lastUsed.set(tokenId, this.#now());
    return true;
  }

  /** Writes the gathered times of last use; keeps them for the next try when that fails. */
  async flush(): Promise<void> {
    const batch = new Map(this.#lastUsed);
    await this.#tokens.noteTokenUse(batch);
    for (const [id, at] of batch) if (this.#lastUsed.get(id) === at) this.#lastUsed.delete(id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    // A time of last use is worth no failed stop.
    await this.flush().catch(() => {});
  }
}

const unauthorized = (what: string): HobError =>
  new HobError("unauthorized", `authorize: ${what}`, { hint: "send 'Authorization: Bearer TOKEN'; 'hob token create' makes a token" });
