import { isIP } from "node:net";
import { ALLOWED_MAX, ALLOWED_SECONDS } from "./firewall.ts";
import { type CompiledRules, verdictOf } from "./rules.ts";

/** Names that one address is remembered for: many names share the addresses of a content network. */
const NAMES_MAX = 8;

const KEPT_MS = ALLOWED_SECONDS * 1_000;

interface Known {
  /** names that resolved to it, and when last; milliseconds of a clock that only goes forward */
  readonly names: Map<string, number>;
  /** when the packet filter began to count its time */
  countedFrom: number;
}

/**
 * Which address belongs to which names, from the answers that the resolver gave. It decides what stays reachable when
 * the rules change, and when an address needs its time in the packet filter again.
 */
export class AddressBook {
  readonly #known = new Map<string, Known>();

  get size(): number {
    return this.#known.size;
  }

  /**
   * Notes an answer.
   * @param now milliseconds of a clock that only goes forward
   * @returns whether the address has to be renewed in the packet filter, as half of its time is over
   */
  note(name: string, address: string, now: number): boolean {
    if (isIP(address) === 0) return false;
    const found = this.#known.get(address);
    const known: Known = found ?? { names: new Map(), countedFrom: now };
    // Anew, so that the order is that of use.
    this.#known.delete(address);
    this.#known.set(address, known);
    known.names.delete(name);
    known.names.set(name, now);
    dropOldest(known.names, NAMES_MAX);
    dropOldest(this.#known, ALLOWED_MAX);
    if (now - known.countedFrom < KEPT_MS / 2) return false;
    known.countedFrom = now;
    return true;
  }

  /** Addresses that a name has resolved to lately which these rules allow; their time counts from now. */
  allowed(rules: CompiledRules, now: number): string[] {
    const result: string[] = [];
    for (const [address, known] of this.#known) {
      for (const [name, at] of known.names) if (now - at > KEPT_MS) known.names.delete(name);
      if (known.names.size === 0) this.#known.delete(address);
      else if ([...known.names.keys()].some((name) => verdictOf(rules, name).action === "allow")) {
        known.countedFrom = now;
        result.push(address);
      }
    }
    return result;
  }
}

function dropOldest(map: Map<string, unknown>, size: number): void {
  if (map.size <= size) return;
  const [oldest] = map.keys();
  if (oldest !== undefined) map.delete(oldest);
}
