import type { Sprite } from "@fly/sprites";
import { outputOf } from "../../../test/e2e/support/exec.ts";
import type { TestDaemon } from "../../../test/e2e/support/test-daemon.ts";
import { limited, Violation } from "./limits.ts";
import { differences, type Manifest, manifestScript, parseManifest, topOf } from "./manifest.ts";

export const VICTIM = "victim";
export const FOLDER = "/home/sprite/torture";
const LOCK = "/home/sprite/.torture.lock";
/** A script goes on when the daemon is killed that it was started through; whoever comes next waits for its end. */
const LOCKED = `set -e\nexec 9>>${LOCK}\nflock --timeout 100 9`;
/** Beside a file that is replaced through the API, docs/api/files.md */
const TEMPORARY_PREFIX = ".hob-write-";

/** The sprite, and what it must hold. */
export class Victim {
  readonly #daemon: TestDaemon;
  present: Manifest = new Map();
  /** names in the folder that were changed since the disk had everything */
  unflushed = new Set<string>();
  /** acknowledged, with what they must hold */
  checkpoints = new Map<string, Manifest>();

  constructor(daemon: TestDaemon) {
    this.#daemon = daemon;
  }

  get sprite(): Sprite {
    return this.#daemon.sdk().sprite(VICTIM);
  }

  /** Everything that was written is on the disk. */
  noteFlushed(): void {
    this.unflushed.clear();
  }

  /** Runs a script in the folder, after every other. */
  inside(what: string, script: string): Promise<string> {
    return limited(what, outputOf(this.sprite, `${LOCKED}\ncd ${FOLDER}\n${script}`));
  }

  read(): Promise<Manifest> {
    return this.#manifest(this.sprite, FOLDER);
  }

  readFork(name: string): Promise<Manifest> {
    return this.#manifest(this.#daemon.sdk().sprite(name), FOLDER);
  }

  /** A checkpoint as it is mounted in the sprite. */
  readMounted(id: string): Promise<Manifest> {
    return this.#manifest(this.sprite, `/.sprite/checkpoints/${id}${FOLDER}`);
  }

  async #manifest(sprite: Sprite, folder: string): Promise<Manifest> {
    return parseManifest(await limited(`manifest of ${sprite.name}`, outputOf(sprite, `${LOCKED}\n${manifestScript(folder)}`)));
  }

  /** Those that were asked for, with their comments. */
  async listed(): Promise<Map<string, string>> {
    const listed = await limited("list of checkpoints", this.sprite.listCheckpoints());
    return new Map(listed.filter(({ id }) => /^v\d+$/.test(id)).map(({ id, comment = "" }) => [id, comment]));
  }

  /** @throws Violation when what is there is not what must be. @param isFree names that may be anything */
  require(expected: Manifest, found: Manifest, what: string, isFree: ReadonlySet<string> = new Set()): void {
    const names = new Set(isFree);
    if (names.size > 0) for (const path of found.keys()) if (path.startsWith(TEMPORARY_PREFIX)) names.add(topOf(path));
    const different = differences(expected, found, names);
    if (different.length > 0) throw new Violation(`${what} is not as recorded (path: recorded → found):\n  ${different.join("\n  ")}`);
  }

  /** @throws Error with status and answer unless it is a success */
  async call(method: string, path: string, body?: object): Promise<unknown> {
    const what = `${method} ${path}`;
    const sent = { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
    const response = await limited(what, this.#daemon.fetch(path, sent));
    const text = await limited(what, response.text());
    if (!response.ok) throw new AnswerError(what, response.status, text);
    return text === "" ? undefined : JSON.parse(text);
  }
}

/** The API refused. */
export class AnswerError extends Error {
  readonly status: number;

  constructor(what: string, status: number, text: string) {
    super(`${what}: ${status} ${text}`);
    this.status = status;
  }
}
