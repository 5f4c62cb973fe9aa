import type { Command, Option } from "commander";
import { type Kind, namesSpriteFirst, operandKind, optionKind, optionValues } from "./kinds.ts";
import type { Names } from "./names.ts";
import { findOption, operandAt, optionsOf, type Place, walk } from "./place.ts";
import { thingsOf } from "./things.ts";

export interface Candidate {
  value: string;
  description: string;
}

export interface Completion {
  candidates: Candidate[];
  /** whether names of files fit here as well */
  files: boolean;
}

const NOTHING: Completion = { candidates: [], files: false };

/**
 * What fits at the cursor.
 * @param words of the command line after `hob`; the last is the one under the cursor, perhaps empty
 * @param names asked only where a name fits
 */
export async function complete(program: Command, words: readonly string[], names: Names): Promise<Completion> {
  const current = words.at(-1) ?? "";
  const place = walk(program, words.slice(0, -1));
  const found = await candidatesAt(place, current, names);
  return { files: found.files, candidates: found.candidates.filter((candidate) => candidate.value.startsWith(current)) };
}

async function candidatesAt(place: Place, current: string, names: Names): Promise<Completion> {
  const { command, openOption } = place;
  if (openOption !== undefined) return ofOption(place, openOption, current, names);
  if (place.afterDashes) return NOTHING;
  const [, flag, value] = /^(--[^=]+)=(.*)$/s.exec(current) ?? [];
  const option = flag === undefined ? undefined : findOption(command, flag);
  if (option !== undefined) return withPrefix(`${flag}=`, await ofOption(place, option, value ?? "", names));
  if (current.startsWith("-")) return { candidates: optionCandidates(command), files: false };
  if (command.commands.length > 0 && place.operands.length === 0) {
    const operands = await ofOperand(place, current, names);
    return { ...operands, candidates: [...commandCandidates(command), ...operands.candidates] };
  }
  return ofOperand(place, current, names);
}

async function ofOption(place: Place, option: Option, current: string, names: Names): Promise<Completion> {
  const values = optionValues(option);
  if (values !== undefined) return { candidates: choices(values), files: false };
  const kind = optionKind(place.command, option);
  return kind === undefined ? NOTHING : thingsOf(kind, { current, names, sprite: spriteOf(place, names), taken: [] });
}

async function ofOperand(place: Place, current: string, names: Names): Promise<Completion> {
  const { command, operands, sprite } = place;
  const hasSprite = namesSpriteFirst(command);
  // -s stands in the place of the first operand, and of no more of them where that may be given several times.
  const isShifted = hasSprite && sprite !== undefined;
  const index = operands.length + (isShifted ? 1 : 0);
  const operand = operandAt(command, index);
  if (operand === undefined) return NOTHING;
  if (operand.argChoices !== undefined) return { candidates: choices(operand.argChoices), files: false };
  const kind = operandKind(command, operand.name());
  // Of the words of exec only the first is a sprite: the others are a command inside.
  if (kind === undefined || (operand.name() === "words" && index > 0) || (isShifted && kind === "sprite")) return NOTHING;
  const taken = operand.variadic ? operands : [];
  const found = await thingsOf(kind, { current, names, sprite: spriteOf(place, names), taken });
  return index === 0 && hasSprite ? withThingsHere(found, place, current, names) : found;
}

/** In a folder with a sprite of its own the name may be left out: then what follows it fits too. */
async function withThingsHere(found: Completion, { command }: Place, current: string, names: Names): Promise<Completion> {
  const next = command.registeredArguments[1];
  const kind = next === undefined ? undefined : operandKind(command, next.name());
  const sprite = kind === undefined || next?.name() === "words" || !OF_SPRITES.has(kind) ? undefined : names.spriteHere();
  if (kind === undefined || sprite === undefined) return found;
  const here = await thingsOf(kind, { current, names, sprite, taken: [] });
  return { ...found, candidates: [...found.candidates, ...here.candidates] };
}

const OF_SPRITES: ReadonlySet<Kind> = new Set(["session", "checkpoint", "service"]);

/** The sprite whose things are meant. */
const spriteOf = ({ command, operands, sprite }: Place, names: Names): string | undefined =>
  sprite ?? (namesSpriteFirst(command) ? operands[0] : undefined) ?? names.spriteHere();

const withPrefix = (prefix: string, { candidates, files }: Completion): Completion => ({
  files,
  candidates: candidates.map(({ value, description }) => ({ value: `${prefix}${value}`, description })),
});

function optionCandidates(command: Command): Candidate[] {
  const help = { value: "--help", description: "show help" };
  return [...optionsOf(command).map((option) => ({ value: option.long ?? option.short ?? "", description: option.description })), help];
}

function commandCandidates(command: Command): Candidate[] {
  return command
    .createHelp()
    .visibleCommands(command)
    .map((child) => ({ value: child.name(), description: child.description() }));
}

const choices = (values: readonly string[]): Candidate[] => values.map((value) => ({ value, description: "" }));
