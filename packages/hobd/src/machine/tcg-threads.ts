import type { CommandRunner } from "@hob/linux";

/** Whether TCG runs each virtual CPU in a thread of its own, or all in one; `-accel tcg,thread=` of qemu(1). */
export type TcgThreads = "multi" | "single";

/** The first QEMU that locks a page of code before it translates it. */
const FIRST_SAFE = [8, 1] as const;

/**
 * A kernel changes its own code while it runs: each branch that it switches on or off is a breakpoint for an instant.
 * Before QEMU 8.1 a thread of TCG could translate that breakpoint just as another thread took it away, and keep it: the
 * guest's kernel panics with "int3". (QEMU commit deba78709ae8.) One thread for all CPUs cannot race with itself.
 * @returns `single` too where the version cannot be told: slower, never wrong
 */
export async function chooseTcgThreads(runner: CommandRunner, program: string): Promise<TcgThreads> {
  const { stdout } = await runner.run({ argv: [program, "--version"], timeoutMs: 10_000 }).catch(() => ({ stdout: "" }));
  const [, major = 0, minor = 0] = (/^QEMU emulator version (\d+)\.(\d+)/.exec(stdout) ?? []).map(Number);
  const isSafe = major > FIRST_SAFE[0] || (major === FIRST_SAFE[0] && minor >= FIRST_SAFE[1]);
  return isSafe ? "multi" : "single";
}
