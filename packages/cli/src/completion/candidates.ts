import type { Argument, Command, Option } from "commander";

export interface Candidate {
  value: string;
  description: string;
}

export interface Completion {
  candidates: Candidate[];
  /** whether names of files fit here as well */
  files: boolean;
}

/** Operands of these names are sprites. */
const SPRITE_OPERANDS: ReadonlySet<string> = new Set(["name", "names", "words"]);
/** Commands whose name operand is a new name, or that take none. */
const NEW_NAME_COMMANDS: ReadonlySet<string> = new Set(["create"]);
/** Operands that are a file of this machine, or of a sprite: `NAME:PATH`. */
const FILE_OPERANDS: ReadonlySet<string> = new Set(["source", "destination"]);
const PATH_OPTIONS: ReadonlySet<string> = new Set(["--home", "--file", "--tls-cert", "--tls-key"]);

const NOTHING: Completion = { candidates: [], files: false };

/**
 * What fits at the cursor.
 * @param words of the command line after `hob`; the last is the one under the cursor, perhaps empty
 * @param spriteNames asked only where a sprite's name fits
 */
export async function complete(program: Command, words: readonly string[], spriteNames: () => Promise<string[]>): Promise<Completion> {
  const current = words.at(-1) ?? "";
  const place = walk(program, words.slice(0, -1));
  const found = await candidatesAt(place, current, spriteNames);
  return { files: found.files, candidates: found.candidates.filter((candidate) => candidate.value.startsWith(current)) };
}

/** Where in the grammar the cursor is. */
interface Place {
  command: Command;
  /** the option whose value is being typed */
  openOption: Option | undefined;
  operands: number;
  /** whether -s has named the sprite */
  named: boolean;
  afterDashes: boolean;
}

function walk(program: Command, words: readonly string[]): Place {
  const place: Place = { command: program, openOption: undefined, operands: 0, named: false, afterDashes: false };
  for (const word of words) {
    if (place.openOption !== undefined) place.openOption = undefined;
    else if (place.afterDashes) place.operands++;
    else if (word === "--") place.afterDashes = true;
    else if (word.startsWith("-")) enterOption(place, word);
    else enterOperand(place, word);
  }
  return place;
}

function enterOption(place: Place, word: string): void {
  const option = optionsOf(place.command).find(({ short, long }) => word === short || word === long);
  if (option?.long === "--sprite" || word.startsWith("--sprite=")) place.named = true;
  if (option?.required) place.openOption = option;
}

function enterOperand(place: Place, word: string): void {
  const child = place.command.commands.find((command) => command.name() === word || command.aliases().includes(word));
  if (child === undefined) place.operands++;
  else place.command = child;
}

/** Options of the command and of those above it, hidden ones left out. */
function optionsOf(command: Command): Option[] {
  const own = command.options.filter((option) => !option.hidden);
  return command.parent === null ? own : [...own, ...optionsOf(command.parent)];
}

async function candidatesAt(place: Place, current: string, spriteNames: () => Promise<string[]>): Promise<Completion> {
  const { command, openOption } = place;
  const sprites = async (): Promise<Completion> => ({
    candidates: (await spriteNames()).map((value) => ({ value, description: "sprite" })),
    files: false,
  });
  if (openOption?.long === "--sprite") return sprites();
  if (openOption !== undefined) return { candidates: choices(openOption.argChoices), files: PATH_OPTIONS.has(openOption.long ?? "") };
  if (place.afterDashes) return NOTHING;
  if (current.startsWith("-")) return { candidates: optionCandidates(command), files: false };
  if (command.commands.length > 0 && place.operands === 0) {
    const names = command.registeredArguments.length > 0 && !place.named ? (await sprites()).candidates : [];
    return { candidates: [...commandCandidates(command), ...names], files: false };
  }
  const operand = operandAt(command, place.operands);
  if (operand === undefined) return NOTHING;
  if (operand.argChoices !== undefined) return { candidates: choices(operand.argChoices), files: false };
  if (FILE_OPERANDS.has(operand.name())) {
    const { candidates } = await sprites();
    return { candidates: candidates.map(({ value }) => ({ value: `${value}:`, description: "files of the sprite" })), files: true };
  }
  // The command that exec runs is a program inside the sprite: nothing of this machine fits.
  const isSprite = SPRITE_OPERANDS.has(operand.name()) && !NEW_NAME_COMMANDS.has(command.name());
  const wantsName = isSprite && !place.named && (operand.name() !== "words" || place.operands === 0);
  return wantsName ? sprites() : NOTHING;
}

function operandAt(command: Command, index: number): Argument | undefined {
  const operands = command.registeredArguments;
  const last = operands.at(-1);
  return operands[index] ?? (last?.variadic === true ? last : undefined);
}

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

const choices = (values: readonly string[] | undefined): Candidate[] => (values ?? []).map((value) => ({ value, description: "" }));
