import { HobError } from "@hob/protocol/errors.ts";
import { type Cli, EXIT } from "../cli.ts";

/** Says what went wrong on standard error. @returns the exit status it means */
export function reportFailure(cli: Cli, thrown: unknown): number {
  const { red, dim } = cli.noteStyle;
  const error = thrown instanceof HobError ? thrown : unexpected(thrown);
  cli.note(`${red("hob:")} ${oneLine(error.message)}`);
  if (error.hint !== undefined) cli.note(`${dim("hint:")} ${oneLine(error.hint)}`);
  if (cli.env.HOB_DEBUG === "1") cli.note(stackOf(error));
  return error.code === "usage" ? EXIT.usage : EXIT.failure;
}

/** Errors of a file that is written to, write(2), which mean that there is no room. */
const FULL: ReadonlySet<string | undefined> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** Why standard output cannot be written, where it leads to a file. */
export function outputError(cause: NodeJS.ErrnoException): HobError {
  const isFull = FULL.has(cause.code);
  return new HobError(isFull ? "no_space" : "internal", `write to standard output: ${isFull ? "there is no room for it" : cause.message}`, {
    hint: isFull ? "what is there so far is not whole: remove it, make room, and try again" : "what is there so far is not whole",
    cause,
  });
}

/** Control characters of a message may come from a server; they must not reach the terminal as commands. */
function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is to be removed
  return text.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, "?").replace(/\n(?!$)/g, "\n  ");
}

function unexpected(thrown: unknown): HobError {
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return new HobError("internal", `unexpected failure: ${text}`, { hint: "HOB_DEBUG=1 shows where", cause: thrown });
}

function stackOf(error: HobError): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${error.cause.stack}` : "";
  return `${error.stack}${cause}`;
}
