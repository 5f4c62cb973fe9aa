import type { Candidate, Completion } from "./candidates.ts";
import type { Kind } from "./kinds.ts";
import type { Names } from "./names.ts";

export interface Question {
  /** what is typed already */
  current: string;
  names: Names;
  /** whose things are meant, if that is known */
  sprite: string | undefined;
  /** words that are given already, where several may be */
  taken: readonly string[];
}

/** Signals that people send; the platform knows all of signal(7). */
const SIGNALS = ["HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "CONT", "STOP", "WINCH"];

/** What of a kind exists. */
export async function thingsOf(kind: Kind, question: Question): Promise<Completion> {
  const { current, names, sprite, taken } = question;
  switch (kind) {
    case "file":
      return { candidates: [], files: true };
    case "path":
      return pathsOf(question);
    case "sprite":
      return plain(without(taken, await names.sprites()));
    case "version":
      return plain(current.includes("@") ? await versionsOf(question, "") : await names.sprites());
    case "sprite or place":
      return plain(current.includes("@") ? await placesOf(question) : await names.sprites());
    case "place":
      return plain(await placesOf(question));
    case "signal":
      return plain(signals(current));
    case "token":
      return plain(await names.tokens());
    default:
      return sprite === undefined ? plain([]) : plain(await ownedBy(sprite, kind, question));
  }
}

async function ownedBy(
  sprite: string,
  kind: "session" | "checkpoint" | "state" | "service" | "services",
  { current, names, taken }: Question,
): Promise<Candidate[]> {
  switch (kind) {
    case "session":
      return without(taken, await names.sessions(sprite));
    case "checkpoint":
      return names.checkpoints(sprite);
    case "state":
      return [{ value: "current", description: "the present state" }, ...(await names.checkpoints(sprite))];
    case "service":
      return names.services(sprite);
    case "services": {
      const before = current.slice(0, current.lastIndexOf(",") + 1);
      return prefixed(before, without(before.split(","), await names.services(sprite)));
    }
  }
}

/** NAME@ID, and what stands after it. */
async function versionsOf({ current, names }: Question, suffix: string): Promise<Candidate[]> {
  const name = current.slice(0, current.indexOf("@"));
  return (await names.checkpoints(name)).map(({ value, description }) => ({ value: `${name}@${value}${suffix}`, description }));
}

/** NAME@ID:/PATH, part by part. */
async function placesOf(question: Question): Promise<Candidate[]> {
  const { current, names } = question;
  const [, name = "", id = "", folder = ""] = /^([^@:]+)@([^:]+):((?:\/.*)?)$/s.exec(current) ?? [];
  if (name === "") {
    if (current.includes("@")) return versionsOf(question, ":/");
    return (await names.sprites()).map(({ value }) => ({ value: `${value}@`, description: "checkpoints of the sprite" }));
  }
  const above = folder.slice(0, folder.lastIndexOf("/") + 1) || "/";
  return prefixed(`${name}@${id}:${above}`, await names.files(name, id, above));
}

/** Paths of this machine, NAME: of sprites, and then paths there. */
async function pathsOf({ current, names }: Question): Promise<Completion> {
  const [, name, path = ""] = /^([a-z0-9-]+):(.*)$/s.exec(current) ?? [];
  if (name === undefined) {
    const sprites = await names.sprites();
    return { candidates: sprites.map(({ value }) => ({ value: `${value}:`, description: "files of the sprite" })), files: true };
  }
  const above = path.slice(0, path.lastIndexOf("/") + 1);
  return plain(prefixed(`${name}:${above}`, await names.files(name, undefined, above || ".")));
}

const plain = (candidates: Candidate[]): Completion => ({ candidates, files: false });

/** With or without SIG, as the person has begun. */
const signals = (current: string): Candidate[] =>
  SIGNALS.map((name) => ({ value: current.startsWith("SI") ? `SIG${name}` : name, description: "signal" }));

const without = (taken: readonly string[], candidates: Candidate[]): Candidate[] =>
  candidates.filter(({ value }) => !taken.includes(value));

const prefixed = (prefix: string, candidates: Candidate[]): Candidate[] =>
  candidates.map(({ value, description }) => ({ value: `${prefix}${value}`, description }));
