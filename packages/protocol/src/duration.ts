/** Nanoseconds would be below the resolution of timers; units as Go's time.ParseDuration has them. */
const UNIT_MS: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/**
 * A Go duration (`1.5s`, `1m30s`) or a plain number of seconds, in milliseconds.
 * @returns undefined if the text is neither, or longer than 24 days (the bound of timers)
 */
export function parseDurationMs(text: string): number | undefined {
  if (text.length > 64) return undefined;
  const ms = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1_000 : sumOfParts(text);
  return ms !== undefined && ms <= 2 ** 31 - 1 ? ms : undefined;
}

function sumOfParts(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined;
  let ms = 0;
  for (const [, value, , unit] of text.matchAll(/(\d+(\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) ms += Number(value) * (UNIT_MS[unit ?? ""] ?? 0);
  return ms;
}
