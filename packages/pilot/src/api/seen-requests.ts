import type { IncomingMessage } from "node:http";
import { HobError, REQUEST_ID_HEADER } from "@hob/protocol";

/** Names kept. The host repeats a request at once or not at all, so the newest few are enough. */
const KEPT = 1_024;

/** Makes each request with an effect happen once, however often the host has to send it. */
export class SeenRequests {
  readonly #ids = new Set<string>();

  /** @throws HobError `conflict` when a request of this name has arrived before */
  takeOnce({ headers }: IncomingMessage): void {
    const id = headers[REQUEST_ID_HEADER];
    if (typeof id !== "string") return;
    if (this.#ids.has(id)) {
      throw new HobError("conflict", "take request: it arrived before, and the connection that brought it was lost", {
        hint: "look whether it had its effect, then repeat it",
      });
    }
    this.#ids.add(id);
    if (this.#ids.size <= KEPT) return;
    const [oldest] = this.#ids;
    if (oldest !== undefined) this.#ids.delete(oldest);
  }
}
