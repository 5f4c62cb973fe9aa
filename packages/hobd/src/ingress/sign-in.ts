import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { HobError } from "@hob/protocol";

/** Time from the link to the browser that opens it. */
const TICKET_TTL_MS = 60_000;
/** Tickets that wait at a time; the oldest goes. */
const TICKETS_MAX = 1_000;
const COOKIE_TTL_MS = 7 * 24 * 3_600_000;

export interface Ticket {
  /** 32 random bytes, base64url */
  readonly ticket: string;
  /** Unix milliseconds */
  readonly expiresAt: number;
}

/** What a valid cookie says. */
export interface SignedIn {
  /** the API token whose owner asked for the link: when it is revoked, the cookie is worth nothing */
  readonly tokenId: string;
}

interface Waiting extends SignedIn {
  spriteId: string;
  expiresAt: number;
}

/**
 * Signs browsers in at a sprite's URL. A ticket, which a holder of an API token gets, works once and soon; it becomes a
 * cookie that is good for one sprite. Tickets are in memory only, cookies are nowhere: a key of the home signs them.
 */
export class SignIn {
  readonly #key: Buffer;
  readonly #now: () => number;
  readonly #waiting = new Map<string, Waiting>();

  /** @param key at least 32 random bytes, the same after every start */
  constructor(key: Buffer, now: () => number = Date.now) {
    this.#key = key;
    this.#now = now;
  }

  issue(spriteId: string, tokenId: string): Ticket {
    const ticket = randomBytes(32).toString("base64url");
    const expiresAt = this.#now() + TICKET_TTL_MS;
    this.#waiting.set(ticket, { spriteId, tokenId, expiresAt });
    const [oldest] = this.#waiting.keys();
    if (this.#waiting.size > TICKETS_MAX && oldest !== undefined) this.#waiting.delete(oldest);
    return { ticket, expiresAt };
  }

  /**
   * Takes a ticket, which is gone then whatever comes of it.
   * @returns a cookie's value and its age in seconds
   * @throws HobError `unauthorized`
   */
  redeem(ticket: string, spriteId: string): { value: string; maxAgeSeconds: number } {
    const waiting = this.#waiting.get(ticket);
    this.#waiting.delete(ticket);
    if (waiting === undefined || waiting.spriteId !== spriteId || waiting.expiresAt < this.#now()) {
      throw new HobError("unauthorized", "sign in: the link was used already, is too old, or is of another sprite", {
        hint: "'hob url NAME --open' makes a new one",
      });
    }
    const expires = Math.floor((this.#now() + COOKIE_TTL_MS) / 1_000);
    const body = `${waiting.tokenId}.${expires}`;
    return { value: `${body}.${this.#sign(spriteId, body).toString("base64url")}`, maxAgeSeconds: COOKIE_TTL_MS / 1_000 };
  }

  /** Reads a cookie; undefined for one that is forged, too old, or of another sprite. */
  verify(value: string, spriteId: string): SignedIn | undefined {
    const [, tokenId = "", expires = "", signature = ""] = /^([0-9a-f]{16})\.(\d{1,12})\.([A-Za-z0-9_-]{43})$/.exec(value) ?? [];
    // As text: the last character has two bits that decoding drops, and a cookie is to have one form only.
    const given = Buffer.from(signature);
    const right = Buffer.from(this.#sign(spriteId, `${tokenId}.${expires}`).toString("base64url"));
    if (given.length !== right.length || !timingSafeEqual(given, right)) return undefined;
    return Number(expires) * 1_000 > this.#now() ? { tokenId } : undefined;
  }

  #sign(spriteId: string, body: string): Buffer {
    return createHmac("sha256", this.#key).update(`hob url cookie 1\n${spriteId}\n${body}`).digest();
  }
}
