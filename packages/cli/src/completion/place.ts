import type { Argument, Command, Option } from "commander";

/** Where in the grammar the cursor is. */
export interface Place {
  command: Command;
  /** the option whose value is being typed */
  openOption: Option | undefined;
  /** words before the cursor that are no options and no commands */
  operands: string[];
  /** the sprite that -s has named */
  sprite: string | undefined;
  afterDashes: boolean;
}

/** @param words before the one under the cursor */
export function walk(program: Command, words: readonly string[]): Place {
  const place: Place = { command: program, openOption: undefined, operands: [], sprite: undefined, afterDashes: false };
  for (const word of words) {
    if (place.openOption !== undefined) leaveOption(place, word);
    else if (place.afterDashes) place.operands.push(word);
    else if (word === "--") place.afterDashes = true;
    else if (word.startsWith("-")) enterOption(place, word);
    else enterOperand(place, word);
  }
  return place;
}

function enterOption(place: Place, word: string): void {
  const [, flag = word, value] = /^(--[^=]+)=(.*)$/s.exec(word) ?? [];
  const option = findOption(place.command, flag);
  if (option?.long === "--sprite" && value !== undefined) place.sprite = value;
  if (option?.required && value === undefined) place.openOption = option;
}

function leaveOption(place: Place, value: string): void {
  if (place.openOption?.long === "--sprite") place.sprite = value;
  place.openOption = undefined;
}

function enterOperand(place: Place, word: string): void {
  const isFirst = place.operands.length === 0;
  const child = isFirst ? place.command.commands.find((command) => command.name() === word || command.aliases().includes(word)) : undefined;
  if (child === undefined) place.operands.push(word);
  else place.command = child;
}

export const findOption = (command: Command, flag: string): Option | undefined =>
  optionsOf(command).find(({ short, long }) => flag === short || flag === long);

/** Options of the command and of those above it, hidden ones left out. */
export function optionsOf(command: Command): Option[] {
  const own = command.options.filter((option) => !option.hidden);
  return command.parent === null ? own : [...own, ...optionsOf(command.parent)];
}

export function operandAt(command: Command, index: number): Argument | undefined {
  const operands = command.registeredArguments;
  const last = operands.at(-1);
  return operands[index] ?? (last?.variadic === true ? last : undefined);
}

/** Words that lead to the command, such as `checkpoint create`. */
export function pathOf(command: Command): string {
  const { parent } = command;
  return parent === null || parent.parent === null ? command.name() : `${pathOf(parent)} ${command.name()}`;
}
