/** Format, lint, types and generated documents: everything that needs no machine. */
import { runSteps, toolSteps } from "./lib/steps.ts";

process.exitCode = await runSteps(toolSteps());
