import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { HobError, type ServiceEvent } from "@hob/protocol";
import fc from "fast-check";
import type { OutputSink, ProcessExit } from "../src/helper/index.ts";
import { LogFile } from "../src/logs/log-file.ts";
import { WriteQueue } from "../src/logs/write-queue.ts";
import type { ServiceProcess } from "../src/services/process.ts";
import { Supervisor } from "../src/services/supervisor.ts";
import type { Timers } from "../src/services/timers.ts";

const directory = mkdtempSync(join(tmpdir(), "hob-supervisor-"));
after(() => rmSync(directory, { recursive: true, force: true }));

/** Everything that is ready to go on has gone on. */
const settle = () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));

/** A clock that only moves when it is told to. */
class ManualTimers implements Timers {
  #nowMs = 1_000_000;
  #last = 0;
  readonly #waiting = new Map<number, { atMs: number; callback: () => void }>();
  now = () => this.#nowMs;
  monotonic = () => this.#nowMs;
  after = (ms: number, callback: () => void) => {
    const id = ++this.#last;
    this.#waiting.set(id, { atMs: this.#nowMs + ms, callback });
    return () => void this.#waiting.delete(id);
  };
  get pending(): number {
    return this.#waiting.size;
  }
  async pass(ms: number): Promise<void> {
    const until = this.#nowMs + ms;
    for (;;) {
      const [id, next] = [...this.#waiting].filter(([, { atMs }]) => atMs <= until).sort(([, a], [, b]) => a.atMs - b.atMs)[0] ?? [];
      if (id === undefined || next === undefined) break;
      this.#waiting.delete(id);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.callback();
      await settle();
    }
    this.#nowMs = until;
  }
}

/** A process that ends when the test says so, or at a signal if it is obedient. */
class FakeProcess implements ServiceProcess {
  readonly pid = 42;
  readonly signals: number[] = [];
  readonly exited: Promise<ProcessExit>;
  obedient: boolean;
  alive = true;
  sink: OutputSink | undefined;
  readonly #end: (exit: ProcessExit) => void;

  constructor(obedient: boolean) {
    const { promise, resolve } = Promise.withResolvers<ProcessExit>();
    this.obedient = obedient;
    this.exited = promise;
    this.#end = resolve;
  }
  start(output: OutputSink): void {
    this.sink = output;
  }
  signal(number: number): void {
    this.signals.push(number);
    if (this.obedient && number === 15) this.end(143);
  }
  kill(): void {
    this.end(137);
  }
  pause(): void {}
  resume(): void {}
  end(code: number, containerGone = false): void {
    this.alive = false;
    this.#end({ code, containerGone });
  }
}

class World {
  readonly timers = new ManualTimers();
  readonly processes: FakeProcess[] = [];
  readonly events: ServiceEvent[] = [];
  readonly supervisor: Supervisor;
  obedient = true;
  refuses = false;
  /** while it is set, launches wait for it */
  gate: PromiseWithResolvers<void> | undefined;

  constructor() {
    const launcher = {
      launch: async () => {
        await this.gate?.promise;
        if (this.refuses) throw new HobError("helper_failed", "set up the process: no");
        assert.equal(this.alive.length, 0, "two processes of one service at a time");
        const process = new FakeProcess(this.obedient);
        this.processes.push(process);
        return process;
      },
    };
    const log = new LogFile(join(directory, "s.log"), new WriteQueue());
    this.supervisor = new Supervisor({ name: "s", cmd: "x", args: [], env: {}, needs: [] }, { launcher, log, timers: this.timers });
    this.supervisor.subscribe((event) => this.events.push(event));
  }
  get alive(): FakeProcess[] {
    return this.processes.filter(({ alive }) => alive);
  }
  get current(): FakeProcess {
    return this.processes.at(-1) ?? assert.fail("no process");
  }
  types(): string[] {
    return this.events.map(({ type }) => type);
  }
}

describe("supervisor", () => {
  test("a crash is answered with restarts that wait ever longer, up to a minute", async () => {
    const world = new World();
    await world.supervisor.start();
    const waits: number[] = [];
    for (let i = 0; i < 9; i++) {
      world.current.end(1);
      await settle();
      const { status, error, next_restart_at, restart_count } = world.supervisor.state();
      assert.deepEqual([status, error, restart_count], ["failed", "exited with status 1", i]);
      const waitMs = Date.parse(next_restart_at ?? "") - world.timers.now();
      waits.push(waitMs);
      await world.timers.pass(waitMs - 1);
      assert.equal(world.alive.length, 0);
      await world.timers.pass(1);
      assert.equal(world.supervisor.status, "running");
    }
    assert.deepEqual(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    assert.equal(world.supervisor.state().restart_count, 9);
    assert.equal(world.supervisor.state().next_restart_at, undefined);
    await world.supervisor.stop(0);
  });

  test("after half a minute of health the next restart is a quick one again", async () => {
    const world = new World();
    await world.supervisor.start();
    for (const _ of [1, 2, 3]) {
      world.current.end(1);
      await settle();
      await world.timers.pass(60_000);
    }
    world.current.end(0);
    await settle();
    const { next_restart_at, restart_count } = world.supervisor.state();
    assert.equal(Date.parse(next_restart_at ?? "") - world.timers.now(), 500);
    assert.equal(restart_count, 3);
    await world.supervisor.stop(0);
  });

  test("stop asks first and kills after the time given", async () => {
    const world = new World();
    world.obedient = false;
    await world.supervisor.start();
    const stopped = world.supervisor.stop(10_000);
    assert.equal(world.supervisor.status, "stopping");
    assert.deepEqual(world.current.signals, [15]);
    await world.timers.pass(9_999);
    assert.equal(world.alive.length, 1);
    await world.timers.pass(1);
    await stopped;
    assert.equal(world.alive.length, 0);
    assert.deepEqual(world.types(), ["started", "stopping", "stopped"]);
    assert.deepEqual(world.events.at(-1), { type: "stopped", exit_code: 137, timestamp: world.timers.now() });
    assert.equal(world.timers.pending, 0, "no timer is left");
  });

  test("stop ends the wait for a restart at once; start does too, and counts anew", async () => {
    const world = new World();
    await world.supervisor.start();
    for (const _ of [1, 2]) {
      world.current.end(1);
      await settle();
      await world.timers.pass(60_000);
    }
    world.current.end(1);
    await settle();
    await world.supervisor.start();
    assert.deepEqual([world.supervisor.status, world.supervisor.state().restart_count], ["running", 0]);
    world.current.end(1);
    await settle();
    await world.supervisor.stop(1_000);
    assert.equal(world.supervisor.status, "stopped");
    await world.timers.pass(600_000);
    assert.equal(world.alive.length, 0);
  });

  test("a stop while it is being launched ends what the launch brings", async () => {
    for (const obedient of [true, false]) {
      const world = new World();
      world.obedient = obedient;
      world.gate = Promise.withResolvers();
      void world.supervisor.start();
      await settle();
      assert.equal(world.supervisor.status, "starting");
      const stopped = world.supervisor.stop(1_000);
      await world.timers.pass(obedient ? 0 : 2_000);
      world.gate.resolve();
      await stopped;
      assert.deepEqual([world.processes.length, world.current.signals, world.alive.length], [1, [15], 0]);
    }
  });

  test("a start while it is being stopped begins behind the stop, and is no restart after a crash", async () => {
    const world = new World();
    world.obedient = false;
    await world.supervisor.start();
    const stopped = world.supervisor.stop(1_000);
    const started = world.supervisor.start();
    await world.timers.pass(1_000);
    await Promise.all([stopped, started]);
    assert.deepEqual(world.types(), ["started", "stopping", "stopped", "started"]);
    assert.equal(world.supervisor.state().restart_count, 0);
    world.current.kill();
    await world.supervisor.stop(0);
  });

  test("a start in the moment of a crash does not wait for the pause after it", async () => {
    const world = new World();
    await world.supervisor.start();
    let again: Promise<void> | undefined;
    world.supervisor.subscribe((event) => {
      if (event.type === "exit") again ??= world.supervisor.start();
    });
    world.current.end(1);
    await settle();
    await again;
    assert.equal(world.supervisor.status, "running");
    await world.supervisor.stop(0);
  });

  test("a program that cannot be run is said to be so", async () => {
    const world = new World();
    await world.supervisor.start();
    world.current.sink?.stderr(Buffer.from("hob: nothing: command not found\n"));
    world.current.end(127);
    await settle();
    assert.equal(world.supervisor.state().error, "Failed to start service: nothing: command not found");
    assert.deepEqual(world.types(), ["started", "stderr", "exit", "error"]);
    await world.supervisor.stop(0);
  });

  test("the end of the container is no crash: it waits to be started again", async () => {
    const world = new World();
    await world.supervisor.start();
    world.current.end(137, true);
    await settle();
    assert.deepEqual([world.supervisor.status, world.supervisor.active], ["stopped", false]);
    await world.timers.pass(600_000);
    assert.equal(world.processes.length, 1);
  });

  test("the last line counts without a line feed, and comes before the exit", async () => {
    const world = new World();
    await world.supervisor.start();
    world.current.sink?.stdout(Buffer.from("one\ntw"));
    world.current.sink?.stdout(Buffer.from("o"));
    world.current.end(0);
    await settle();
    assert.deepEqual(
      world.events.flatMap((event) => (event.type === "stdout" ? [event.data] : event.type === "exit" ? ["exit"] : [])),
      ["one\n", "two\n", "exit"],
    );
    await world.supervisor.stop(0);
  });
});

type Command =
  | "hold"
  | "land"
  | "start"
  | "stop"
  | "stopAtOnce"
  | "crash"
  | "containerGone"
  | "refuse"
  | "accept"
  | "stubborn"
  | "obedient"
  | number;
const command: fc.Arbitrary<Command> = fc.oneof(
  fc.constantFrom<Command>(
    "hold",
    "land",
    "start",
    "stop",
    "stopAtOnce",
    "crash",
    "containerGone",
    "refuse",
    "accept",
    "stubborn",
    "obedient",
  ),
  fc.integer({ min: 1, max: 70_000 }),
);

/** A stop gives up while a launch hangs; a real launch is bounded by the helper. */
function onlyLate(error: HobError): void {
  assert.equal(error.code, "timeout");
}

function land(world: World): void {
  world.gate?.resolve();
  world.gate = undefined;
}

/** The user's wish as far as it is known: undefined while an operation is under way. */
async function act(world: World, step: Command, waiting: Promise<unknown>[]): Promise<"up" | "down" | "same"> {
  const { supervisor, timers } = world;
  if (typeof step === "number") await timers.pass(step);
  else if (step === "start") waiting.push(supervisor.start());
  else if (step === "stop") waiting.push(supervisor.stop(5_000).catch(onlyLate));
  else if (step === "stopAtOnce") waiting.push(supervisor.stop(0).catch(onlyLate));
  else if (step === "crash") world.alive[0]?.end(1);
  else if (step === "containerGone") world.alive[0]?.end(137, true);
  else if (step === "hold") world.gate ??= Promise.withResolvers();
  else if (step === "land") land(world);
  else if (step === "refuse" || step === "accept") world.refuses = step === "refuse";
  else world.obedient = step === "obedient";
  await settle();
  if (step === "start") return "up";
  return step === "stop" || step === "stopAtOnce" || step === "containerGone" ? "down" : "same";
}

test("whatever happens in whatever order: one process at most, none after a stop, and never stuck", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { maxLength: 40 }), async (steps) => {
      const world = new World();
      const { supervisor, timers } = world;
      const waiting: Promise<unknown>[] = [];
      for (const step of steps) {
        await act(world, step, waiting);
        const { status, pid, next_restart_at, error } = supervisor.state();
        assert.equal(pid !== undefined, world.alive.length === 1, `${status}: a pid if and only if a process is alive`);
        assert.equal(next_restart_at !== undefined, status === "failed", status);
        if (status === "running" || status === "stopped") assert.equal(world.alive.length, status === "running" ? 1 : 0, status);
        if (status === "failed") assert.ok(error !== undefined && supervisor.active);
      }
      // Every operation ends, when time passes.
      world.refuses = false;
      land(world);
      await settle();
      await timers.pass(200_000);
      await Promise.all(waiting);
      const stop = supervisor.stop(1_000);
      await timers.pass(1_000);
      await stop;
      assert.deepEqual([supervisor.status, world.alive.length, supervisor.active], ["stopped", 0, false]);
      await timers.pass(600_000);
      assert.deepEqual([world.alive.length, timers.pending], [0, 0], "it stays so");
      const count = world.types().filter((type) => type === "started").length;
      await supervisor.start();
      assert.equal(world.types().filter((type) => type === "started").length, count + 1, "and can be started again");
      world.current.kill();
      await supervisor.stop(0);
    }),
    { numRuns: 300 },
  );
});
