import { pipeline } from "node:stream/promises";
import type { HobClient } from "@hob/client";
import { HobError } from "@hob/protocol/errors.ts";
import type { Command } from "commander";
import { type Cli, EXIT } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { copyError } from "../files/copy-error.ts";
import { type Location, parseLocation } from "../files/location.ts";
import { Tally } from "../files/tally.ts";
import { formatDuration } from "../output/format.ts";
import { type Register, withExample } from "../program.ts";

interface CopyFlags extends GlobalFlags {
  recursive?: boolean;
  asRoot?: boolean;
  json?: boolean;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("cp")
    .description("Copy files and folders into a sprite, out of it, or inside it")
    .argument("<source>", "path of this machine, or NAME:PATH of a sprite, or - for standard input")
    .argument("<destination>", "the same, or - for standard output; a folder gets the source inside")
    .option("-r, --recursive", "copy folders with all that is in them")
    .option("--as-root", "read or write as the root of the sprite")
    .option("--json", "print JSON");
  withExample(command, "hob cp app.py web:", "hob cp -r web:/var/log ./logs", "hob cp web:notes.txt - | less");
  command.action((source: string, destination: string, _flags: CopyFlags, self: Command) =>
    copy(cli, parseLocation(source), parseLocation(destination), self.optsWithGlobals<CopyFlags>()),
  );
};

async function copy(cli: Cli, source: Location, destination: Location, flags: CopyFlags): Promise<void> {
  checkLocations(source, destination);
  const start = performance.now();
  const tally = new Tally();
  const work = perform(cli, await cli.client(flags), source, destination, flags, tally).catch((error: unknown) => {
    throw copyError(error);
  });
  if (destination.kind === "standard") return work;
  const { withProgress } = await import("../output/progress.ts");
  await withProgress(cli, "Copying", work, { state: () => String(tally) });
  await reportFailures(cli, tally);
  if (flags.json) return cli.printJson({ files: tally.files, bytes: tally.bytes, failed: tally.failures.length });
  cli.print(`${cli.style.green("Copied")} ${tally} in ${formatDuration(performance.now() - start)}`);
}

/** @throws HobError `usage` */
function checkLocations(source: Location, destination: Location): void {
  const names = [source, destination].flatMap((location) => (location.kind === "sprite" ? [location.name] : []));
  if (names.length === 0) throw new HobError("usage", "neither path is of a sprite", { hint: "NAME:PATH is a path of the sprite NAME" });
  if (new Set(names).size > 1) {
    throw new HobError("usage", "the paths are of two sprites", { hint: "copy to this machine first, or through '-'" });
  }
}

async function perform(
  cli: Cli,
  client: HobClient,
  source: Location,
  destination: Location,
  flags: CopyFlags,
  tally: Tally,
): Promise<void> {
  const options = { recursive: flags.recursive === true, asRoot: flags.asRoot === true };
  if (source.kind === "sprite" && destination.kind === "sprite") return copyInside(client, source, destination, options, tally);
  if (destination.kind === "sprite") {
    const files = await client.files(destination.name);
    if (source.kind === "local") return (await import("../files/upload.ts")).upload(files, source.path, destination.path, options, tally);
    const { asRoot } = options;
    await files.write(destination.path, cli.stdin.pipe(tally.counter()), { asRoot });
    tally.files++;
  } else if (source.kind === "sprite") {
    const files = await client.files(source.name);
    if (destination.kind === "local")
      return (await import("../files/download.ts")).download(files, source.path, destination.path, options, tally);
    // Standard output stays open: the process ends when all of it is written.
    await pipeline(await files.read(source.path, { asRoot: options.asRoot }), cli.stdout, { end: false });
  }
}

/** The sprite copies by itself: nothing of it passes through this machine. */
async function copyInside(
  client: HobClient,
  source: Location & { kind: "sprite" },
  destination: Location & { kind: "sprite" },
  options: { recursive: boolean; asRoot: boolean },
  tally: Tally,
): Promise<void> {
  const files = await client.files(source.name);
  const [from, to] = [await files.stat(source.path, options), await files.stat(destination.path, options).catch(() => undefined)];
  const inside = to?.isDir === true ? `${to.path}/${from.name}` : destination.path;
  const done = await files.copy(source.path, inside, options);
  tally.files += done.count;
  tally.bytes += done.totalBytes;
}

async function reportFailures(cli: Cli, tally: Tally): Promise<void> {
  if (tally.failures.length === 0) return;
  const { reportFailure } = await import("../output/failure.ts");
  for (const { path, error } of tally.failures) {
    const { code, message } = copyError(error);
    reportFailure(cli, new HobError(code, `${path}: ${message}`));
  }
  cli.exitStatus = EXIT.failure;
}
