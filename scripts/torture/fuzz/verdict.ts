import { type ErrorCode, HobError } from "@hob/protocol";
import type { Verdict } from "./target.ts";

/** Codes below 500, which say that the input was wrong. */
const saysBadInput = (error: HobError): boolean => error.status < 500;

/** Parses and checks. A refusal is an error that says so, or one of these codes. @throws what else was thrown, which is a fault */
export function parsed<T>(parse: () => T, check: (value: T) => void = () => {}, codes: readonly ErrorCode[] = []): Verdict {
  let value: T;
  try {
    value = parse();
  } catch (error) {
    return refusal(error, codes);
  }
  check(value);
  return "accepted";
}

/** The same for what takes its time. */
export async function parsedLater<T>(
  parse: () => Promise<T>,
  check: (value: T) => void = () => {},
  codes: readonly ErrorCode[] = [],
): Promise<Verdict> {
  let value: T;
  try {
    value = await parse();
  } catch (error) {
    return refusal(error, codes);
  }
  check(value);
  return "accepted";
}

function refusal(error: unknown, codes: readonly ErrorCode[]): Verdict {
  if (error instanceof HobError && (saysBadInput(error) || codes.includes(error.code))) return "refused";
  throw error;
}
