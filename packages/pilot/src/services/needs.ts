import { HobError } from "@hob/protocol";
import type { ServiceDefinition } from "./definition.ts";

type Definitions = ReadonlyMap<string, ServiceDefinition>;

/**
 * Whether a definition may stand beside the others.
 * @throws HobError `invalid_request` for an unknown need or a circle, which it names | `conflict` for a second HTTP port
 */
export function checkDefinition(definition: ServiceDefinition, others: Definitions): void {
  const all = new Map(others).set(definition.name, definition);
  for (const need of definition.needs) {
    if (!all.has(need)) throw new HobError("invalid_request", `define service ${definition.name}: it needs ${need}, which is not defined`);
  }
  const circle = findCircle(definition.name, all);
  if (circle !== undefined) {
    throw new HobError("invalid_request", `define service ${definition.name}: its needs close a circle: ${circle.join(" → ")}`);
  }
  if (definition.httpPort === undefined) return;
  for (const other of others.values()) {
    if (other.name !== definition.name && other.httpPort !== undefined) {
      throw new HobError("conflict", "another service already has an HTTP port configured", { details: { service: other.name } });
    }
  }
}

/** The way from a service back to itself, both ends named; undefined if there is none. */
function findCircle(start: string, all: Definitions): string[] | undefined {
  const seen = new Set<string>();
  const search = (name: string, way: readonly string[]): string[] | undefined => {
    for (const need of all.get(name)?.needs ?? []) {
      if (need === start) return [...way, need];
      if (seen.has(need)) continue;
      seen.add(need);
      const found = search(need, [...way, need]);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  return search(start, [start]);
}

/**
 * Names in an order in which each comes after all that it needs; among equals, alphabetical. Needs that are not defined
 * are left out, and a circle, which only a damaged volume can hold, is cut anywhere.
 * @param of only these and what they need; default all
 */
export function startOrder(all: Definitions, of: Iterable<string> = [...all.keys()].sort()): string[] {
  const order = new Set<string>();
  const visiting = new Set<string>();
  const visit = (name: string): void => {
    const definition = all.get(name);
    if (definition === undefined || order.has(name) || visiting.has(name)) return;
    visiting.add(name);
    for (const need of [...definition.needs].sort()) visit(need);
    order.add(name);
  };
  for (const name of of) visit(name);
  return [...order];
}

/** Names of those that need a service themselves. */
export function dependents(name: string, all: Definitions): string[] {
  return [...all.values()]
    .filter((definition) => definition.needs.includes(name))
    .map((definition) => definition.name)
    .sort();
}
