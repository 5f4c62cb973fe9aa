import { constants } from "node:os";

/** signal(7) */
export const SIGNAL_NUMBERS = constants.signals;

/**
 * Number of a signal given in any spelling that clients use: `SIGTERM`, `term`, `15`.
 * @returns undefined if there is no such signal; 1 to 64 else. signal(7)
 */
export function signalNumber(text: string): number | undefined {
  const plain = text.trim().toUpperCase();
  if (/^\d{1,2}$/.test(plain)) {
    const number = Number(plain);
    return number >= 1 && number <= 64 ? number : undefined;
  }
  const name = plain.startsWith("SIG") ? plain : `SIG${plain}`;
  const known: Readonly<Record<string, number>> = constants.signals;
  return Object.hasOwn(known, name) ? known[name] : undefined;
}

/** `SIGTERM` for 15; the number itself where it has no name, as those for real time. */
export function signalName(number: number): string {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? String(number);
}
