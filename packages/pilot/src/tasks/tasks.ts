import { HobError, TASK_LIMITS, type Task, task, taskName } from "@hob/protocol";
import { z } from "zod";
import type { Activity } from "../activity/activity.ts";
import { readJsonFile, writeDurably } from "../durable-file.ts";

interface LiveTask {
  readonly name: string;
  readonly startedAtMs: number;
  readonly expiresAtMs: number;
  readonly hold: Disposable;
}

const stored = z.object({ version: z.literal(1), tasks: z.array(task) });

/** Holds on the sprite that programs inside, or its user, asked for. They survive a restart of the pilot. */
export class Tasks {
  readonly #path: string;
  readonly #activity: Activity;
  readonly #now: () => number;
  readonly #tasks = new Map<string, LiveTask>();
  #saving: Promise<void> = Promise.resolve();

  /** @param path of the file that keeps them */
  constructor(path: string, activity: Activity, now: () => number = Date.now) {
    this.#path = path;
    this.#activity = activity;
    this.#now = now;
  }

  /** Takes up those of a pilot before this one. */
  async load(): Promise<void> {
    const parsed = stored.safeParse(await readJsonFile(this.#path));
    if (!parsed.success) return;
    for (const { name, started_at, expires_at } of parsed.data.tasks) {
      // A clock that was set back meanwhile must not make a task longer than any may be.
      const expiresAtMs = Math.min(Date.parse(expires_at), this.#now() + TASK_LIMITS.expireMs);
      if (expiresAtMs > this.#now()) this.#set(name, Date.parse(started_at), expiresAtMs);
    }
  }

  list(): Task[] {
    this.#forgetExpired();
    return [...this.#tasks.values()].map(present);
  }

  /** @throws HobError `not_found` */
  get(name: string): Task {
    return present(this.#require(name));
  }

  /** @throws HobError `conflict` when it is there | `invalid_request` */
  async create(name: string, expireMs: number): Promise<Task> {
    this.#forgetExpired();
    if (this.#tasks.has(name)) {
      throw new HobError("conflict", `create task ${name}: it is there already`, { hint: "PUT renews it" });
    }
    return this.#put(name, expireMs, this.#now());
  }

  /** Makes it or renews it. @throws HobError `invalid_request` | `conflict` when there are too many */
  async put(name: string, expireMs: number): Promise<Task> {
    this.#forgetExpired();
    return this.#put(name, expireMs, this.#tasks.get(name)?.startedAtMs ?? this.#now());
  }

  /** @throws HobError `not_found` */
  async remove(name: string): Promise<void> {
    const { hold } = this.#require(name);
    this.#tasks.delete(name);
    hold[Symbol.dispose]();
    await this.#save();
  }

  async #put(name: string, expireMs: number, startedAtMs: number): Promise<Task> {
    const checked = taskName.safeParse(name);
    if (!checked.success) throw new HobError("invalid_request", `task: name: ${checked.error.issues[0]?.message}`);
    if (expireMs <= 0 || expireMs > TASK_LIMITS.expireMs) {
      throw new HobError("invalid_request", `task ${name}: expire: more than 0 and at most 1h expected`, {
        hint: "renew it by PUT before it expires",
      });
    }
    if (!this.#tasks.has(name) && this.#tasks.size >= TASK_LIMITS.tasks) {
      throw new HobError("conflict", `task ${name}: there are ${this.#tasks.size} tasks already, no more are possible`);
    }
    const made = this.#set(name, startedAtMs, this.#now() + expireMs);
    await this.#save();
    return present(made);
  }

  #set(name: string, startedAtMs: number, expiresAtMs: number): LiveTask {
    const before = this.#tasks.get(name);
    const made = { name, startedAtMs, expiresAtMs, hold: this.#activity.hold("task", name, expiresAtMs) };
    this.#tasks.set(name, made);
    before?.hold[Symbol.dispose]();
    return made;
  }

  #require(name: string): LiveTask {
    this.#forgetExpired();
    const found = this.#tasks.get(name);
    if (found === undefined) throw new HobError("not_found", `task not found: ${name}`);
    return found;
  }

  #forgetExpired(): void {
    for (const { name, expiresAtMs } of this.#tasks.values()) if (expiresAtMs <= this.#now()) this.#tasks.delete(name);
  }

  /** One after the other: the last state is what stays. */
  #save(): Promise<void> {
    const write = () => writeDurably(this.#path, JSON.stringify({ version: 1, tasks: [...this.#tasks.values()].map(present) }));
    const saved = this.#saving.then(write);
    this.#saving = saved.catch(() => {});
    return saved;
  }
}

const present = ({ name, startedAtMs, expiresAtMs }: LiveTask): Task => ({
  name,
  started_at: new Date(startedAtMs).toISOString(),
  expires_at: new Date(expiresAtMs).toISOString(),
});
