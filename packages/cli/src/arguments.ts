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

/** Parser of HOST:PORT, also [::1]:PORT and PORT alone, for commander. Port 0 lets the system choose. */
export function parseListen(text: string): { host: string; port: number } {
  const match = /^(?:(\[[0-9a-fA-F:.]+\]|[^:[\]]+):)?(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port > 65_535) throw new InvalidArgumentError("It must look like 127.0.0.1:7700.");
  return { host: (match[1] ?? "127.0.0.1").replace(/^\[|\]$/g, ""), port };
}
