import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Scratch } from "./scratch.ts";

export const PROJECT = fileURLToPath(new URL("../../", import.meta.url));

const GRACE_MS = 10_000;

/** One program that a task runs, with its output shown as it comes. */
export interface ScriptStep {
  title: string;
  argv: readonly string[];
  /** how often it may be tried in all; default 1 */
  attempts?: number;
  /** it is ended after this long, and has failed; default: no limit */
  timeoutMs?: number;
}

/** Format, lint, types, and documents that are made from code. */
export const toolSteps = (): ScriptStep[] => [
  { title: "format and lint", argv: [process.execPath, "node_modules/@biomejs/biome/bin/biome", "ci", "--error-on-warnings", "."] },
  { title: "types", argv: [process.execPath, "node_modules/typescript/bin/tsc", "-p", "."] },
  { title: "generated documents", argv: [process.execPath, "scripts/docs.ts", "--check"] },
];

/**
 * Runs the steps in order and stops at the first that fails; steps that needed another try are named at the end.
 *
 * @param scratch a step of which something goes on in it has failed; files that it leaves are named, and the next one finds none
 * @returns the exit code of the step that failed, else 0
 */
export async function runSteps(steps: readonly ScriptStep[], scratch?: Scratch): Promise<number> {
  const unstable: string[] = [];
  for (const { title, argv, attempts = 1, timeoutMs } of steps) {
    let code = -1;
    for (let attempt = 1; attempt <= attempts && code !== 0; attempt++) {
      console.log(`\n== ${title}${attempt === 1 ? "" : `, try ${attempt}`}`);
      code = (await run(argv, timeoutMs)) || tidied(scratch);
      scratch?.clear();
      if (code !== 0) console.error(`\n${title}: failed with exit code ${code}`);
      else if (attempt > 1) unstable.push(title);
    }
    if (code !== 0) return code;
  }
  for (const title of unstable) console.error(`unstable, passed at a later try only: ${title}`);
  return 0;
}

/** Names what a step that has passed leaves. @returns 1 when something of it goes on, else 0 */
function tidied(scratch: Scratch | undefined): number {
  const running = scratch?.running() ?? [];
  for (const what of running) console.error(`left running: ${what}`);
  for (const path of scratch?.files() ?? []) console.error(`left: ${path}`);
  return running.length > 0 ? 1 : 0;
}

function run(argv: readonly string[], timeoutMs: number | undefined): Promise<number> {
  const [program = "", ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: PROJECT, stdio: "inherit" });
    const timers =
      timeoutMs === undefined
        ? []
        : [
            setTimeout(() => {
              console.error(`\nnot done after ${timeoutMs / 60_000} minutes: ${argv.join(" ").slice(0, 200)}`);
              child.kill("SIGTERM");
            }, timeoutMs),
            // Told to end, the runner says what it was at; unless it cannot.
            setTimeout(() => child.kill("SIGKILL"), timeoutMs + GRACE_MS),
          ];
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      for (const timer of timers) clearTimeout(timer);
      if (signal !== null) console.error(`\n${argv.join(" ").slice(0, 200)}: ended by ${signal}`);
      resolve(code ?? (signal === null ? 1 : 128));
    });
  });
}
