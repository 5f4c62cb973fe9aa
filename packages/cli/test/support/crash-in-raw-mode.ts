import { RawMode } from "../../src/terminal/raw-mode.ts";

// A program that crashes while the terminal is raw: the test looks at the terminal afterwards.
new RawMode(process.stdin, process.stdout).enter();
process.stdout.write("raw\n");
setTimeout(() => {
  throw new Error("crash");
}, 300);
