import { loadConfig } from "@hob/hobd";
import { TestRuntime } from "../../../hobd/test/support/test-runtime.ts";
import { Cli } from "../../src/cli.ts";
import { serveInForeground } from "../../src/commands/serve.ts";

// The real daemon and the real `hob serve`, over a runtime that makes no VMs.
await serveInForeground(
  new Cli(process),
  loadConfig(process.env),
  { createRuntime: (context) => new TestRuntime(context, { pilotPort: () => 1 }) },
  process.argv.includes("--json"),
);
