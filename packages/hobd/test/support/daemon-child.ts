import { startDaemon, stopOnSignal } from "../../src/index.ts";
import { testConfig } from "./test-daemon.ts";
import { TestRuntime } from "./test-runtime.ts";

/** A daemon as a process of its own. Says on standard output, one JSON object per line, what its runtime is told and when it is up. */
export interface ChildOptions {
  home: string;
  listenPort?: number;
  pilotPort: number;
  createMs?: number;
}

const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);

// Standard input ends with the test, also when the test is killed: no daemon may outlive it.
process.stdin
  .on("end", () => process.exit(2))
  .resume()
  .unref();

const options: ChildOptions = JSON.parse(process.argv[2] ?? "");
try {
  const daemon = await startDaemon(
    testConfig(options.home, { listen: { host: "127.0.0.1", port: options.listenPort ?? 0 }, logLevel: "info" }),
    {
      createRuntime: (context) =>
        new TestRuntime(context, {
          pilotPort: () => options.pilotPort,
          createMs: options.createMs ?? 0,
          onCall: (call) => say({ call }),
        }),
    },
  );
  say({ url: daemon.url, token: daemon.token });
  await stopOnSignal(daemon);
  say({ stopped: true });
} catch (error) {
  const { code, message, hint } = error as { code?: string; message: string; hint?: string };
  say({ code, message, hint });
  process.exitCode = 1;
}
