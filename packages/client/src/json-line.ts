import { HobError } from "@hob/protocol/errors.ts";

/**
 * One line of an answer that is a JSON object per line.
 * @param what names the exchange in errors
 * @throws HobError `bad_answer` for what is no object: `null` is JSON too
 */
export function parseLine<T>(line: string, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new HobError("bad_answer", `${what}: a line of the answer is not JSON`, { cause });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as T;
  throw new HobError("bad_answer", `${what}: a line of the answer is no JSON object`);
}
