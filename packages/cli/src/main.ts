import { type Command, CommanderError } from "commander";
import { Cli, EXIT } from "./cli.ts";
import { separateCommand } from "./exec-arguments.ts";
import { reportFailure } from "./output/failure.ts";
import { buildProgram, commandIndex, commandName } from "./program.ts";
import { findSpriteFile } from "./sprite-file.ts";
import { namesOfCommand, refuseUnknownHelp, usageError } from "./usage.ts";

/** Time that a last message to the server gets when the reader of our output has gone. */
const BROKEN_PIPE_GRACE_MS = 100;

const cli = new Cli(process);
let pipeIsBroken = false;

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") endNow(reportFailure(cli, error));
  if (cli.onBrokenPipe === undefined) return;
  pipeIsBroken = true;
  cli.onBrokenPipe();
  setTimeout(() => endNow(EXIT.brokenPipe), BROKEN_PIPE_GRACE_MS);
});
// Nobody is left to tell.
process.stderr.on("error", () => {});
process.on("uncaughtException", (error) => endNow(reportFailure(cli, error)));
process.on("unhandledRejection", (reason) => endNow(reportFailure(cli, reason)));

await run(process.argv.slice(2));
await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
endNow(pipeIsBroken ? EXIT.brokenPipe : cli.exitStatus);

async function run(argv: readonly string[]): Promise<void> {
  const index = commandIndex(argv);
  const word = argv[index];
  let program: Command | undefined;
  try {
    program = await buildProgram(cli, word);
    if (argv.length === 0) {
      program.outputHelp();
      return;
    }
    refuseUnknownHelp(program, argv.slice(index));
    const isExec = word !== undefined && commandName(word) === "exec";
    const words = isExec ? [...argv.slice(0, index + 1), ...separateCommand(argv.slice(index + 1), spriteOfFolder)] : argv;
    await program.parseAsync(words, { from: "user" });
  } catch (thrown) {
    if (thrown instanceof CommanderError && thrown.exitCode === 0) return;
    // The reader of our output has gone: that is the end, and no failure.
    if (pipeIsBroken && (thrown as NodeJS.ErrnoException).code === "EPIPE") return;
    if (thrown instanceof CommanderError && thrown.code === "commander.help") cli.exitStatus = EXIT.usage;
    else {
      const path = program === undefined ? [] : namesOfCommand(program, argv.slice(index));
      cli.exitStatus = reportFailure(cli, thrown instanceof CommanderError ? usageError(thrown, path) : thrown);
    }
  }
}

function spriteOfFolder(): string | undefined {
  return findSpriteFile(process.cwd())?.sprite;
}

/** Resolves when what was written has left this process, or can never leave it. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed || !stream.writable) return resolve();
    stream.once("error", () => resolve());
    stream.write("", () => resolve());
  });
}

/** Ends although standard input may still be open; listeners of "exit" put the terminal back in order. */
function endNow(status: number): never {
  process.exit(status);
}
