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
