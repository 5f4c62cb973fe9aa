/** What dnsmasq logs of a query with `log-queries=extra`; the serial number ties the lines of one query together. */
export type ResolverEvent =
  | { kind: "started" }
  | { kind: "query"; name: string; type: string }
  /** an address that the answer to the query for `name` held */
  | { kind: "address"; name: string; address: string }
  /** anything that is not about a query */
  | { kind: "other"; text: string };

/** Queries under way whose names are remembered; dnsmasq itself has at most 150 at a time. */
const OPEN_QUERIES_MAX = 1_024;

const QUERY = /^query\[([A-Z0-9a-z=-]{1,32})\] (.{1,1024}) from [0-9a-f.:]+$/;
const ANSWER = /^(?:reply|cached) .{0,1024} is ([0-9a-f.:]{2,45})$/;

/**
 * Reads dnsmasq's log. Names in it are what the sprite asked for, and may hold anything but control characters; of a
 * line only its beginning and its end are relied on, which dnsmasq writes itself.
 */
export class QueryLog {
  readonly #names = new Map<string, string>();

  read(line: string): ResolverEvent | undefined {
    const text = line.replace(/^dnsmasq\[\d+\]: /, "");
    if (text.startsWith("started, version ")) return { kind: "started" };
    const numbered = /^(\d+) \S+ (.*)$/.exec(text);
    if (numbered === null) return { kind: "other", text };
    const [, serial = "", rest = ""] = numbered;
    const query = QUERY.exec(rest);
    if (query !== null) {
      const [, type = "", name = ""] = query;
      this.#remember(serial, name);
      return { kind: "query", name, type };
    }
    const address = ANSWER.exec(rest)?.[1];
    const name = this.#names.get(serial);
    return address === undefined || name === undefined ? undefined : { kind: "address", name, address };
  }

  #remember(serial: string, name: string): void {
    // A number may come again when dnsmasq was restarted: the newest counts.
    this.#names.delete(serial);
    this.#names.set(serial, name);
    if (this.#names.size <= OPEN_QUERIES_MAX) return;
    const [oldest] = this.#names.keys();
    if (oldest !== undefined) this.#names.delete(oldest);
  }
}
