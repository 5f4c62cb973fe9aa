import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Daemon, type DaemonConfig, type DaemonOverrides, startDaemon } from "../../src/index.ts";
import { TestPilot } from "./test-pilot.ts";
import { TestRuntime, type TestRuntimeOptions } from "./test-runtime.ts";

/** Those that are still there. */
const homes = new Set<string>();
// A test that waits for what never comes is given up by node:test, and its process ends without any of its clean-up.
process.once("exit", () => {
  for (const path of homes) rmSync(path, { recursive: true, force: true });
});

export async function temporaryHome(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "hobd-test-"));
  homes.add(path);
  const remove = async () => {
    await rm(path, { recursive: true, force: true });
    homes.delete(path);
  };
  return { path, [Symbol.asyncDispose]: remove };
}

export const testConfig = (home: string, more: Partial<DaemonConfig> = {}): DaemonConfig => ({
  home,
  listen: { host: "127.0.0.1", port: 0 },
  domain: "sprites.localhost",
  maxRunning: 100,
  idleTimeoutSeconds: 0,
  coldAfterSeconds: 0,
  cacheKeepSeconds: 0,
  createRate: 0,
  logLevel: "debug",
  store: `dir:${join(home, "store")}`,
  ...more,
});

/** A daemon in this process, with a runtime and a pilot of the test, in a home of its own. */
export class TestDaemon implements AsyncDisposable {
  readonly daemon: Daemon;
  readonly runtime: TestRuntime;
  readonly pilot: TestPilot;
  readonly home: string;
  readonly #cleanUp: AsyncDisposableStack;

  constructor(daemon: Daemon, runtime: TestRuntime, pilot: TestPilot, home: string, cleanUp: AsyncDisposableStack) {
    this.daemon = daemon;
    this.runtime = runtime;
    this.pilot = pilot;
    this.home = home;
    this.#cleanUp = cleanUp;
  }

  static async start(
    config: Partial<DaemonConfig> = {},
    options: Partial<TestRuntimeOptions> = {},
    overrides: Pick<DaemonOverrides, "now" | "upstreamTimes"> = {},
  ): Promise<TestDaemon> {
    await using undo = new AsyncDisposableStack();
    const home = undo.use(await temporaryHome());
    const pilot = undo.use(await TestPilot.start());
    let runtime: TestRuntime | undefined;
    const daemon = await startDaemon(testConfig(home.path, config), {
      ...overrides,
      createRuntime: (context) => (runtime = new TestRuntime(context, { pilotPort: () => pilot.port, ...options })),
    });
    undo.defer(() => daemon.stop());
    assert(runtime);
    return new TestDaemon(daemon, runtime, pilot, home.path, undo.move());
  }

  get url(): string {
    return this.daemon.url;
  }

  get token(): string {
    return this.daemon.token ?? "";
  }

  get headers(): Record<string, string> {
    return { Authorization: `Bearer ${this.token}` };
  }

  /** Sends a request to the API with the token; an object body as JSON. */
  fetch(path: string, init: RequestInit & { json?: unknown } = {}): Promise<Response> {
    const { json, headers, ...rest } = init;
    return fetch(`${this.url}${path}`, {
      ...rest,
      headers: { ...this.headers, ...(headers as Record<string, string>) },
      ...(json === undefined ? {} : { body: JSON.stringify(json) }),
    });
  }

  create(name: string, more: object = {}, headers: Record<string, string> = {}): Promise<Response> {
    return this.fetch("/v1/sprites", { method: "POST", json: { name, ...more }, headers });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#cleanUp.disposeAsync();
  }
}

/** Resolves when the condition holds. @throws after the time has run out */
export async function until(what: string, condition: () => boolean | Promise<boolean>, timeoutMs = 5_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    assert(Date.now() < deadline, `not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** An answer's JSON body, whose shape the test asserts. */
// biome-ignore lint/suspicious/noExplicitAny: assertions on it say what it is
export const bodyOf = (response: Response): Promise<any> => response.json();
