import { HobError, SERVICE_LIMITS, type Service, type ServiceEvent, type serviceRequest } from "@hob/protocol";
import type { Logger } from "pino";
import type { z } from "zod";
import { signalNumber } from "../exec/index.ts";
import type { LogDirectory } from "../logs/log-directory.ts";
import { readSnapshot } from "../logs/log-reader.ts";
import type { LogBlock } from "../logs/record.ts";
import { checkServiceName, type ServiceDefinition, toDefinition, toService } from "./definition.ts";
import { KeyedQueue } from "./keyed-queue.ts";
import { checkDefinition, dependents, startOrder } from "./needs.ts";
import type { ServiceLauncher } from "./process.ts";
import type { ServiceStore } from "./store.ts";
import { Supervisor } from "./supervisor.ts";
import type { Timers } from "./timers.ts";

/** From SIGTERM to SIGKILL where nobody says how long. */
const STOP_GRACE_MS = 10_000;
/** The same for all services together when the container stops: a bounce shall not take long for one that does not heed it. */
const SUSPEND_GRACE_MS = 5_000;
/** Beyond that, killing the container ends what is left. */
const SUSPEND_TIMEOUT_MS = SUSPEND_GRACE_MS + 1_000;
const FLUSH_TIMEOUT_MS = 5_000;
const LISTEN_POLL_MS = 50;

export interface ServiceManagerParts {
  readonly store: ServiceStore;
  readonly logs: LogDirectory;
  readonly launcher: ServiceLauncher;
  readonly timers: Timers;
  /** whether something in the sprite listens on this TCP port */
  readonly isListening: (port: number) => Promise<boolean>;
  readonly log: Pick<Logger, "info" | "warn">;
}

/** Something that was allowed and has not begun. */
export interface Operation {
  /** Does it, and shows the service's events from just before on. `done` rejects with what went wrong. */
  begin(listener: (event: ServiceEvent) => void): { done: Promise<void>; unsubscribe: () => void };
}

/** All services of the sprite. What a user asked for is on the volume before it is done. */
export class ServiceManager {
  readonly #parts: ServiceManagerParts;
  readonly #supervisors = new Map<string, Supervisor>();
  /** stopped by their user */
  readonly #stopped = new Set<string>();
  /** operations on one service do not overlap */
  readonly #inOrder = new KeyedQueue();
  /** changes of the set of definitions do not overlap */
  readonly #definitions = new KeyedQueue();

  constructor(parts: ServiceManagerParts) {
    this.#parts = parts;
  }

  /** In the order in which they start. */
  list(): Service[] {
    return startOrder(this.#all()).map((name) => this.get(name));
  }

  /** @throws HobError `not_found` */
  get(name: string): Service {
    const supervisor = this.#require(name);
    return toService(supervisor.definition, supervisor.state());
  }

  /**
   * Stores a definition. Beginning the operation starts the service; one that runs by another definition is stopped
   * first, and one that runs by the same goes on.
   * @throws HobError `invalid_request` | `conflict`; nothing is stored then
   */
  async put(name: string, request: z.infer<typeof serviceRequest>): Promise<Operation> {
    const definition = toDefinition(checkServiceName(name), request);
    const changed = await this.#inOrder.run(name, () => this.#definitions.run("", () => this.#define(definition)));
    return this.#operation(name, async (supervisor) => {
      if (changed) await supervisor.stop(STOP_GRACE_MS);
      await this.#startWithNeeds(name);
    });
  }

  /** @throws HobError `not_found` | `conflict` while another service needs it */
  async remove(name: string): Promise<void> {
    this.#checkRemovable(name);
    await this.#inOrder.run(name, async () => {
      this.#checkRemovable(name);
      await this.#require(name).stop(STOP_GRACE_MS);
      await this.#definitions.run("", async () => {
        this.#checkRemovable(name);
        await this.#parts.store.remove(name);
        this.#supervisors.delete(name);
        this.#stopped.delete(name);
      });
      await this.#parts.logs.release(name);
    });
  }

  /** @throws HobError `not_found` | `conflict` if it runs */
  start(name: string): Operation {
    const { status } = this.#require(name);
    if (status === "running" || status === "starting") throw new HobError("conflict", `start service ${name}: it is ${status} already`);
    return this.#operation(name, () => this.#startWithNeeds(name));
  }

  /** It stays stopped until its user starts it. @throws HobError `not_found` | `conflict` if it does not run */
  stop(name: string, graceMs = STOP_GRACE_MS): Operation {
    const { status } = this.#require(name);
    if (status === "stopped") throw new HobError("conflict", `stop service ${name}: it does not run`);
    return this.#operation(name, async (supervisor) => {
      await this.#remember(name, true);
      await supervisor.stop(graceMs);
    });
  }

  /** @throws HobError `not_found` */
  restart(name: string): Operation {
    this.#require(name);
    return this.#operation(name, async (supervisor) => {
      await supervisor.stop(STOP_GRACE_MS);
      await this.#startWithNeeds(name);
    });
  }

  /** @throws HobError `invalid_request` no such signal | `not_found` | `conflict` if it does not run */
  signal(name: string, signal: string): void {
    const supervisor = this.#require(name);
    const number = signalNumber(signal);
    if (number === undefined) throw new HobError("invalid_request", `signal service ${name}: no such signal: ${signal}`);
    supervisor.signal(number);
  }

  /**
   * What a service wrote so far, then calls back for all that comes.
   * @param last lines, default all
   * @throws HobError `not_found`
   */
  logs(
    name: string,
    last: number | undefined,
    listener: (event: ServiceEvent) => void,
  ): { blocks: AsyncGenerator<LogBlock>; unsubscribe: () => void } {
    const supervisor = this.#require(name);
    // Both at once: each line is either in the snapshot or shown to the listener.
    const unsubscribe = supervisor.subscribe(listener);
    const snapshot = this.#parts.logs.log(name).snapshot();
    snapshot.catch(() => {});
    return { blocks: readSnapshot(snapshot, last), unsubscribe };
  }

  /**
   * Makes the service with the HTTP port run, also if its user stopped it, and waits until it listens.
   * @returns its port; undefined if no service has one
   * @throws HobError `timeout` if nothing listens in time
   */
  async ensureHttpService(timeoutMs = 10_000): Promise<number | undefined> {
    const { timers, isListening } = this.#parts;
    const found = [...this.#supervisors.values()].find(({ definition }) => definition.httpPort !== undefined);
    const port = found?.definition.httpPort;
    if (found === undefined || port === undefined) return undefined;
    const deadline = timers.monotonic() + timeoutMs;
    const { name } = found.definition;
    if (!found.active) await this.#operation(name, () => this.#startWithNeeds(name)).begin(() => {}).done;
    while (!(await isListening(port))) {
      if (timers.monotonic() >= deadline) {
        throw new HobError("timeout", `reach service ${name}: nothing listens on port ${port} after ${timeoutMs / 1000} s`, {
          hint: `its log is /.sprite/logs/services/${name}.log`,
        });
      }
      await new Promise<void>((resolve) => void timers.after(LISTEN_POLL_MS, resolve));
    }
    return port;
  }

  /** The container runs: reads the definitions anew, as the volume may be another, and starts what shall run. Never rejects. */
  async containerStarted(): Promise<void> {
    try {
      await this.#definitions.run("", () => this.#load());
      for (const name of startOrder(this.#all())) {
        if (!this.#stopped.has(name)) await this.#inOrder.run(name, async () => this.#supervisors.get(name)?.start());
      }
    } catch (error) {
      this.#parts.log.warn({ err: error }, "start the services");
    }
  }

  /** The container is about to be killed: those that need others end before them. Bounded; never rejects. */
  async containerStopping(): Promise<void> {
    const all = this.#all();
    const { timers } = this.#parts;
    const deadline = timers.monotonic() + SUSPEND_GRACE_MS;
    const ended = new Map<string, Promise<unknown>>();
    for (const name of startOrder(all).reverse()) {
      const before = Promise.all(dependents(name, all).map((dependent) => ended.get(dependent)));
      const stop = async () => this.#supervisors.get(name)?.stop(Math.max(0, deadline - timers.monotonic()));
      ended.set(
        name,
        before.then(stop).catch(() => {}),
      );
    }
    await this.#within(SUSPEND_TIMEOUT_MS, Promise.all(ended.values()));
  }

  /** Every process has ended: writes what the logs still hold and lets go of the volume. Bounded; never rejects. */
  async containerStopped(): Promise<void> {
    await this.#within(FLUSH_TIMEOUT_MS, Promise.all([...this.#supervisors.values()].map((supervisor) => supervisor.stop(0))));
    await this.#within(FLUSH_TIMEOUT_MS, this.#parts.logs.close());
  }

  async #load(): Promise<void> {
    const { services, damaged } = await this.#parts.store.load();
    if (damaged.length > 0) this.#parts.log.warn({ files: damaged }, "damaged definitions of services are left out");
    const names = new Set(services.map(({ definition }) => definition.name));
    for (const name of this.#supervisors.keys()) if (!names.has(name)) this.#supervisors.delete(name);
    this.#stopped.clear();
    for (const { definition, stopped } of services) {
      this.#take(definition);
      if (stopped) this.#stopped.add(definition.name);
    }
    await this.#parts.logs.prepare();
    await this.#parts.logs.prune(names);
  }

  /** @returns whether it differs from what was there */
  async #define(definition: ServiceDefinition): Promise<boolean> {
    const all = this.#all();
    const previous = all.get(definition.name);
    if (previous === undefined && all.size >= SERVICE_LIMITS.services) {
      throw new HobError("conflict", `define service ${definition.name}: there are ${all.size} services already, no more are possible`);
    }
    checkDefinition(definition, all);
    await this.#parts.logs.prepare();
    await this.#parts.store.save({ definition, stopped: false });
    this.#take(definition);
    this.#stopped.delete(definition.name);
    return JSON.stringify(previous) !== JSON.stringify(definition);
  }

  #take(definition: ServiceDefinition): void {
    const known = this.#supervisors.get(definition.name);
    if (known !== undefined) {
      known.definition = definition;
      return;
    }
    const { launcher, logs, timers } = this.#parts;
    this.#supervisors.set(definition.name, new Supervisor(definition, { launcher, timers, log: logs.log(definition.name) }));
  }

  /** Starting is asking for what is needed too, whatever was stopped before. */
  async #startWithNeeds(name: string): Promise<void> {
    for (const needed of startOrder(this.#all(), [name])) {
      await this.#remember(needed, false);
      await this.#supervisors.get(needed)?.start();
    }
  }

  async #remember(name: string, stopped: boolean): Promise<void> {
    const supervisor = this.#supervisors.get(name);
    if (supervisor === undefined || this.#stopped.has(name) === stopped) return;
    await this.#parts.store.save({ definition: supervisor.definition, stopped });
    if (stopped) this.#stopped.add(name);
    else this.#stopped.delete(name);
  }

  #operation(name: string, work: (supervisor: Supervisor) => Promise<void>): Operation {
    const supervisor = this.#require(name);
    return {
      begin: (listener) => ({
        unsubscribe: supervisor.subscribe(listener),
        done: this.#inOrder.run(name, () => work(supervisor)),
      }),
    };
  }

  #checkRemovable(name: string): void {
    this.#require(name);
    const needing = dependents(name, this.#all());
    if (needing.length === 0) return;
    throw new HobError("conflict", `delete service ${name}: ${needing.join(", ")} needs it`, { hint: "delete or change that first" });
  }

  #require(name: string): Supervisor {
    const supervisor = this.#supervisors.get(name);
    if (supervisor === undefined) throw new HobError("not_found", `service not found: ${name}`);
    return supervisor;
  }

  #all(): Map<string, ServiceDefinition> {
    return new Map([...this.#supervisors].map(([name, { definition }]) => [name, definition]));
  }

  async #within(ms: number, work: Promise<unknown>): Promise<void> {
    const late = Promise.withResolvers<void>();
    const cancel = this.#parts.timers.after(ms, late.resolve);
    await Promise.race([work.catch(() => {}), late.promise]);
    cancel();
  }
}
