import type { CommandRunner } from "@hob/linux";

/** Frequency of the host's time stamp counter, kHz; 0 where it cannot be measured. */
export async function measureTscKhz(runner: CommandRunner, meter: string): Promise<number> {
  const { stdout } = await runner.run({ argv: [meter], timeoutMs: 10_000 }).catch(() => ({ stdout: "0" }));
  return roundToStable(Number.parseInt(stdout, 10) || 0);
}

/** Two measurements differ in the last digits; a template is for one value, so it is rounded to 1/100,000. */
function roundToStable(khz: number): number {
  const step = Math.max(1, Math.round(khz / 100_000 / 10) * 10);
  return Math.round(khz / step) * step;
}
