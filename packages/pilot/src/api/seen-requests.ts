import { closeSync, existsSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { HobError, REQUEST_ID_HEADER } from "@hob/protocol";

/** Names in one file, of which there are two. The host repeats a request within a minute or not at all, so the newest are enough. */
const KEPT = 1_024;

/**
 * Makes each request with an effect happen once, however often the host has to send it. A file on a tmpfs tells the
 * pilot's successor: a pilot may end when it has begun to act on a request and has not answered yet.
 */
export class SeenRequests {
  readonly #ids = new Set<string>();
  readonly #path: string | undefined;
  #file: number | undefined;
  #inFile = 0;

  /** @param path undefined: names are forgotten with this process */
  constructor(path?: string) {
    this.#path = path;
    if (path === undefined) return;
    for (const id of namesIn(older(path))) this.#ids.add(id);
    const names = namesIn(path);
    for (const id of names) this.#ids.add(id);
    this.#inFile = names.length;
    this.#file = openSync(path, "a", 0o600);
  }

  /** @throws HobError `conflict` when a request of this name has arrived before */
  takeOnce({ headers, method, url }: IncomingMessage): void {
    const id = headers[REQUEST_ID_HEADER];
    if (typeof id !== "string") return;
    if (this.#ids.has(id)) {
      const what = `${method} ${url?.replace(/\?.*$/s, "")}`;
      throw new HobError("conflict", `${what}: it has reached the sprite, and the connection was lost before the answer`, {
        hint: "look whether it had its effect, then repeat it",
      });
    }
    this.#ids.add(id);
    // What has no effect may happen again.
    if (headers.upgrade !== undefined || (method !== "GET" && method !== "HEAD")) this.#write(id);
    if (this.#ids.size <= 2 * KEPT) return;
    const [oldest] = this.#ids;
    if (oldest !== undefined) this.#ids.delete(oldest);
  }

  #write(id: string): void {
    if (this.#path === undefined || this.#file === undefined) return;
    if (this.#inFile >= KEPT) {
      closeSync(this.#file);
      renameSync(this.#path, older(this.#path));
      this.#file = openSync(this.#path, "a", 0o600);
      this.#inFile = 0;
    }
    writeSync(this.#file, `${id}\n`);
    this.#inFile++;
  }
}

const older = (path: string): string => `${path}.old`;

const namesIn = (path: string): string[] =>
  existsSync(path)
    ? readFileSync(path, "latin1")
        .split("\n")
        .filter((id) => id !== "")
    : [];
