import { HobError, type ServiceEvent, type ServiceState, type ServiceStatus, toHobError } from "@hob/protocol";
import type { LogFile } from "../logs/log-file.ts";
import { HEALTHY_AFTER_MS, restartDelayMs } from "./backoff.ts";
import type { ServiceDefinition } from "./definition.ts";
import { ServiceOutput } from "./output.ts";
import type { ServiceLauncher, ServiceProcess } from "./process.ts";
import type { Timers } from "./timers.ts";

const SIGTERM = 15;
/** After SIGKILL: longer than the kernel needs unless it is stuck in a device. */
const KILL_TIMEOUT_MS = 15_000;

type LiveEvent = Exclude<ServiceEvent, { type: "complete" }>;
/** An event without its time. */
type Moment = LiveEvent extends infer Event ? (Event extends LiveEvent ? Omit<Event, "timestamp"> : never) : never;

export interface SupervisorParts {
  readonly launcher: ServiceLauncher;
  readonly log: LogFile;
  readonly timers: Timers;
}

/**
 * Keeps one service running: one loop that launches it, waits for its end, rests, and launches it again, for as long
 * as it is meant to run. At most one process exists at any time.
 */
export class Supervisor {
  definition: ServiceDefinition;
  readonly #parts: SupervisorParts;
  readonly #listeners = new Set<(event: ServiceEvent) => void>();
  #wanted = false;
  /** the loop; undefined when nothing runs and nothing will */
  #loop: Promise<void> | undefined;
  #status: ServiceStatus = "stopped";
  #process: ServiceProcess | undefined;
  /** the time to end by itself is over: the process is killed, also if it is only just being launched */
  #killed = false;
  #startedAtMs: number | undefined;
  #error: string | undefined;
  #lastExitCode = 0;
  #restartCount = 0;
  #failures = 0;
  #nextRestartAtMs: number | undefined;
  #endRest: (() => void) | undefined;
  #attempt: PromiseWithResolvers<void> | undefined;

  constructor(definition: ServiceDefinition, parts: SupervisorParts) {
    this.definition = definition;
    this.#parts = parts;
  }

  get status(): ServiceStatus {
    return this.#status;
  }

  /** Whether it runs, is about to, or will again by itself. */
  get active(): boolean {
    return this.#wanted && this.#loop !== undefined;
  }

  state(): ServiceState {
    const time = (ms: number | undefined, name: "started_at" | "next_restart_at") =>
      ms === undefined ? {} : { [name]: new Date(ms).toISOString() };
    return {
      name: this.definition.name,
      status: this.#status,
      ...(this.#process?.pid === undefined ? {} : { pid: this.#process.pid }),
      ...time(this.#startedAtMs, "started_at"),
      ...(this.#error === undefined ? {} : { error: this.#error }),
      restart_count: this.#restartCount,
      ...time(this.#nextRestartAtMs, "next_restart_at"),
    };
  }

  /** @returns a function that ends it */
  subscribe(listener: (event: ServiceEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Starts it, at once also if it rests after an end. Settles when it has been launched, or could not be. */
  async start(): Promise<void> {
    if (!this.#wanted) await this.#loop;
    if (this.#process !== undefined) return;
    this.#wanted = true;
    this.#restartCount = 0;
    this.#failures = 0;
    this.#attempt ??= Promise.withResolvers();
    const attempt = this.#attempt.promise;
    this.#endRest?.();
    this.#loop ??= this.#run();
    await attempt;
  }

  /**
   * Asks it to end, ends it after a while, and waits for that.
   * @param graceMs from SIGTERM to SIGKILL
   * @throws HobError `timeout` if it survives SIGKILL
   */
  async stop(graceMs: number): Promise<void> {
    const loop = this.#loop;
    if (loop === undefined) return;
    this.#wanted = false;
    this.#endRest?.();
    if (this.#status !== "stopping") this.#emit({ type: "stopping" });
    this.#status = "stopping";
    this.#process?.signal(SIGTERM);
    const cancelKill = this.#parts.timers.after(graceMs, () => {
      this.#killed = true;
      this.#process?.kill();
    });
    const late = Promise.withResolvers<never>();
    const cancelLate = this.#parts.timers.after(graceMs + KILL_TIMEOUT_MS, () =>
      late.reject(new HobError("timeout", `stop service ${this.definition.name}: it does not end`)),
    );
    try {
      await Promise.race([loop, late.promise]);
    } finally {
      cancelKill();
      cancelLate();
    }
  }

  /** @throws HobError `conflict` if it does not run */
  signal(number: number): void {
    if (this.#process === undefined || this.#status !== "running") {
      throw new HobError("conflict", `signal service ${this.definition.name}: it is ${this.#status}`, { hint: "start it first" });
    }
    this.#process.signal(number);
  }

  async #run(): Promise<void> {
    while (this.#wanted) {
      const again = await this.#runOnce();
      if (this.#wanted && again) await this.#rest();
    }
    // Nothing is awaited from the last look at #wanted to here, so no start is missed.
    this.#emit({ type: "stopped", exit_code: this.#lastExitCode });
    this.#status = "stopped";
    this.#nextRestartAtMs = undefined;
    this.#killed = false;
    this.#loop = undefined;
    this.#settleAttempt();
  }

  /** One life of the process. @returns false if it shall not be launched again by itself */
  async #runOnce(): Promise<boolean> {
    const { launcher, timers } = this.#parts;
    this.#status = "starting";
    this.#error = undefined;
    this.#nextRestartAtMs = undefined;
    let process: ServiceProcess;
    try {
      process = await launcher.launch(this.definition);
    } catch (error) {
      this.#fail(toHobError(error).message);
      this.#settleAttempt();
      return true;
    }
    this.#process = process;
    this.#startedAtMs = timers.now();
    const startedAt = timers.monotonic();
    this.#status = this.#wanted ? "running" : "stopping";
    this.#emit({ type: "started" });
    const output = new ServiceOutput(process, this.#parts.log, timers.now, (type, lines) => {
      if (this.#listeners.size > 0) this.#emit({ type, data: lines.toString("utf8") });
    });
    this.#settleAttempt();
    if (!this.#wanted) process.signal(SIGTERM);
    if (this.#killed) process.kill();
    const exit = await process.exited;
    output.end();
    this.#process = undefined;
    this.#startedAtMs = undefined;
    if (timers.monotonic() - startedAt >= HEALTHY_AFTER_MS) this.#failures = 0;
    return this.#ended(exit.code, exit.containerGone, output.complaint);
  }

  #ended(code: number, containerGone: boolean, complaint: string | undefined): boolean {
    this.#lastExitCode = code;
    if (!this.#wanted) return false;
    this.#emit({ type: "exit", exit_code: code });
    if (containerGone) {
      // It is started again with the container.
      this.#wanted = false;
      this.#error = "the sprite's container stopped";
      return false;
    }
    if (complaint !== undefined && (code === 126 || code === 127)) this.#fail(complaint);
    else this.#error = `exited with status ${code}`;
    return true;
  }

  #fail(reason: string): void {
    this.#error = `Failed to start service: ${reason}`;
    this.#emit({ type: "error", data: this.#error });
  }

  /** Waits until it may be launched again; `start` and `stop` end the wait. */
  async #rest(): Promise<void> {
    // Somebody wants it started, and came between its end and this.
    if (this.#attempt !== undefined) return;
    const { timers } = this.#parts;
    this.#failures++;
    const delayMs = restartDelayMs(this.#failures);
    this.#status = "failed";
    this.#nextRestartAtMs = timers.now() + delayMs;
    await new Promise<void>((resolve) => {
      const cancel = timers.after(delayMs, () => {
        this.#restartCount++;
        resolve();
      });
      this.#endRest = () => {
        cancel();
        resolve();
      };
    });
    this.#endRest = undefined;
  }

  #settleAttempt(): void {
    this.#attempt?.resolve();
    this.#attempt = undefined;
  }

  #emit(moment: Moment): void {
    const event = { ...moment, timestamp: this.#parts.timers.now() } as ServiceEvent;
    for (const listener of this.#listeners) listener(event);
  }
}
