import { after, afterEach, before, type TestContext } from "node:test";
import type { Sprite } from "@fly/sprites";
import { type DaemonOptions, TestDaemon } from "./test-daemon.ts";

/** A template may have to be booted first. */
const SET_UP_TIMEOUT_MS = 300_000;
const CLEAN_UP_TIMEOUT_MS = 120_000;

export interface Suite {
  readonly daemon: TestDaemon;
  /** one of the sprites that the suite was made with */
  sprite(name: string): Sprite;
}

export interface SuiteOptions extends DaemonOptions {
  sprites?: readonly string[];
  /** what all tests need, once the sprites are there: hooks of the file itself do not wait for that */
  prepare?: (daemon: TestDaemon) => Promise<unknown>;
}

/**
 * One daemon for all tests of a file, with these sprites created in order. Removed after the last test, whatever
 * happened. A failed test shows the ends of the daemon's log and of the consoles.
 */
export function useDaemon(options: SuiteOptions = {}): Suite {
  let daemon: TestDaemon | undefined;
  const running = (): TestDaemon => {
    if (daemon === undefined) throw new Error("the suite's daemon did not start");
    return daemon;
  };
  before(
    async () => {
      daemon = await TestDaemon.start(options);
      for (const name of options.sprites ?? []) await createOrExplain(daemon, name);
      await options.prepare?.(daemon);
    },
    { timeout: SET_UP_TIMEOUT_MS },
  );
  afterEach((context) => {
    if (hasFailed(context) && daemon !== undefined) console.error(daemon.describe());
  });
  after(async () => daemon?.[Symbol.asyncDispose](), { timeout: CLEAN_UP_TIMEOUT_MS });
  return {
    get daemon() {
      return running();
    },
    sprite: (name) => running().sdk().sprite(name),
  };
}

async function createOrExplain(daemon: TestDaemon, name: string): Promise<void> {
  try {
    await daemon.sdk().createSprite(name);
  } catch (error) {
    console.error(daemon.describe());
    throw error;
  }
}

/** A daemon of one test's own. Removed when the test ends, and then `afterwards` is called; a failed test shows its log. */
export async function daemonFor(context: TestContext, options: DaemonOptions = {}, afterwards = () => {}): Promise<TestDaemon> {
  let daemon: TestDaemon | undefined;
  context.after(
    async () => {
      if (hasFailed(context) && daemon !== undefined) console.error(daemon.describe());
      try {
        await daemon?.[Symbol.asyncDispose]();
      } finally {
        afterwards();
      }
    },
    { timeout: CLEAN_UP_TIMEOUT_MS },
  );
  daemon = await TestDaemon.start(options);
  return daemon;
}

/** `passed` is documented for test contexts, but not in the types. */
const hasFailed = (context: unknown): boolean => (context as { passed?: boolean }).passed === false;
