/** Format, lint and types: everything that needs no machine. */
import { runSteps, toolSteps } from "./lib/steps.ts";

process.exitCode = await runSteps(toolSteps());
