import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { Readable } from "node:stream";
import { HobError } from "@hob/protocol/errors.ts";
import { MACHINE_LIMITS } from "@hob/protocol/limits.ts";
import type { Command } from "commander";
import { integerBetween } from "../arguments.ts";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { formatBytes } from "../output/format.ts";
import { withProgress } from "../output/progress.ts";
import { type Register, withExample } from "../program.ts";

interface ImportFlags extends GlobalFlags {
  storageGb?: number;
  json?: boolean;
}

const { storageGb } = MACHINE_LIMITS;

export const register: Register = (program, cli) => {
  const command = program
    .command("import")
    .description("Make a sprite from an exported file, with all its checkpoints; the file is verified first")
    .argument("<source>", "the file, or - for standard input")
    .argument("<new-name>", "name of the new sprite")
    .option(
      "--storage-gb <n>",
      "refuse a file whose disk has another size (default: take that of the file)",
      integerBetween(storageGb.min, storageGb.max),
    )
    .option("--json", "print the sprite as JSON");
  withExample(command, "hob import web.hob web", "hob import - web < web.hob");
  command.action((source: string, name: string, _flags: ImportFlags, self: Command) =>
    importSprite(cli, source, name, self.optsWithGlobals<ImportFlags>()),
  );
};

async function importSprite(cli: Cli, source: string, name: string, flags: ImportFlags): Promise<void> {
  const content = source === "-" ? standardInput(cli) : await openFile(source);
  let bytes = 0;
  content.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
  });
  content.pause();
  const storage = await (await cli.client(flags)).storage();
  const work = storage.import(name, content, flags.storageGb);
  const sprite = await withProgress(cli, `Importing ${name}`, work, { state: () => formatBytes(bytes) });
  if (flags.json) return cli.printJson(sprite);
  cli.print(`${cli.style.green("Imported")} ${cli.style.bold(sprite.name)}: ${formatBytes(bytes)}`);
  cli.print(sprite.url);
}

function standardInput(cli: Cli): Readable {
  if (cli.stdin.isTTY) throw new HobError("usage", "import: standard input is a terminal", { hint: "hob import - NAME < FILE" });
  return cli.stdin;
}

async function openFile(path: string): Promise<Readable> {
  const found = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    const missing = cause.code === "ENOENT";
    throw new HobError(missing ? "not_found" : "usage", `import ${path}: ${missing ? "no such file" : cause.message}`, { cause });
  });
  if (found.isDirectory()) throw new HobError("usage", `import ${path}: it is a folder`, { hint: "'hob export NAME > FILE' makes a file" });
  return createReadStream(path);
}
