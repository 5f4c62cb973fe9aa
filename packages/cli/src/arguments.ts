import { InvalidArgumentError } from "commander";

/** Parser of a whole number within bounds, for commander. */
export const integerBetween =
  (min: number, max: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max)
      throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
    return value;
  };

/** Parser of a repeatable `K=V`, for commander. The value may hold anything, also further equals signs. */
export function collectAssignment(text: string, previous: Record<string, string> = {}): Record<string, string> {
  const equals = text.indexOf("=");
  if (equals < 1) throw new InvalidArgumentError("It must look like NAME=VALUE.");
  return { ...previous, [text.slice(0, equals)]: text.slice(equals + 1) };
}

export const collectText = (text: string, previous: string[] = []): string[] => [...previous, text];

const UNIT_SECONDS = { s: 1, m: 60, h: 60 * 60, d: 24 * 60 * 60 } as const;

/** Parser of a time such as `30s`, `5m`, `2h`, `1d`, or whole seconds, for commander. @returns seconds */
export function durationSeconds(text: string): number {
  const [, number, unit = "s"] = /^(\d{1,9})(s|m|h|d)?$/.exec(text) ?? [];
  if (number === undefined) throw new InvalidArgumentError("It must be a time such as 30s, 5m or 2h.");
  return Number(number) * UNIT_SECONDS[unit as keyof typeof UNIT_SECONDS];
}
