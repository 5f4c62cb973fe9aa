const VALUE_FLAGS: ReadonlySet<string> = new Set(["--dir", "--env", "--file", "-s", "--sprite", "--url", "--token", "--home"]);

/**
 * Puts `--` before the command of `hob exec`, so that `hob exec web ls -l` means what it says.
 * The command begins after the sprite's name, which is the first operand unless -s names the sprite. Where `--` comes
 * first, the sprite is that of the folder.
 *
 * @param words what follows the word `exec`
 * @param spriteOfFolder asked only if needed
 */
export function separateCommand(words: readonly string[], spriteOfFolder: () => string | undefined): string[] {
  let nameIsKnown = false;
  for (let index = 0; index < words.length; index++) {
    const word = words[index] as string;
    if (word === "--") {
      const sprite = nameIsKnown ? undefined : spriteOfFolder();
      return sprite === undefined ? [...words] : ["-s", sprite, ...words];
    }
    if (!word.startsWith("-") || word === "-") {
      if (nameIsKnown) return [...words.slice(0, index), "--", ...words.slice(index)];
      nameIsKnown = true;
      continue;
    }
    if (word.startsWith("-s") || word.startsWith("--sprite")) nameIsKnown = true;
    if (VALUE_FLAGS.has(word)) index++;
  }
  return [...words];
}
