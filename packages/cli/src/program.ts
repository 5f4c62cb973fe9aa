import { Command } from "commander";
import type { Cli } from "./cli.ts";

/** Adds one command to the program. */
export type Register = (program: Command, cli: Cli) => void;

/**
 * All commands, in the order of the help. Only the module of the command that runs is loaded:
 * loading all of them would cost `hob version` more than its own work.
 */
const COMMANDS: Readonly<Record<string, () => Promise<{ register: Register }>>> = {
  serve: () => import("./commands/serve.ts"),
  create: () => import("./commands/create.ts"),
  list: () => import("./commands/list.ts"),
  info: () => import("./commands/info.ts"),
  exec: () => import("./commands/exec.ts"),
  console: () => import("./commands/console.ts"),
  use: () => import("./commands/use.ts"),
  update: () => import("./commands/update.ts"),
  sleep: () => import("./commands/sleep.ts"),
  restart: () => import("./commands/restart.ts"),
  upgrade: () => import("./commands/upgrade.ts"),
  cp: () => import("./commands/cp.ts"),
  attach: () => import("./commands/attach.ts"),
  sessions: () => import("./commands/sessions.ts"),
  url: () => import("./commands/url.ts"),
  proxy: () => import("./commands/proxy.ts"),
  services: () => import("./commands/services.ts"),
  logs: () => import("./commands/logs.ts"),
  bounce: () => import("./commands/bounce.ts"),
  checkpoint: () => import("./commands/checkpoint.ts"),
  restore: () => import("./commands/restore.ts"),
  undo: () => import("./commands/undo.ts"),
  policy: () => import("./commands/policy.ts"),
  sync: () => import("./commands/sync.ts"),
  fork: () => import("./commands/fork.ts"),
  export: () => import("./commands/export.ts"),
  import: () => import("./commands/import.ts"),
  fsck: () => import("./commands/fsck.ts"),
  gc: () => import("./commands/gc.ts"),
  destroy: () => import("./commands/destroy.ts"),
  api: () => import("./commands/api.ts"),
  config: () => import("./commands/config.ts"),
  token: () => import("./commands/token.ts"),
  image: () => import("./commands/image.ts"),
  cache: () => import("./commands/cache.ts"),
  doctor: () => import("./commands/doctor.ts"),
  completion: () => import("./commands/completion.ts"),
  version: () => import("./commands/version.ts"),
  __complete: () => import("./commands/complete.ts"),
};

/** Those that people see. */
export const COMMAND_NAMES: readonly string[] = Object.keys(COMMANDS).filter((name) => !name.startsWith("__"));

const ALIASES: Readonly<Record<string, string>> = { ls: "list", status: "info", x: "exec", c: "console", s: "sessions" };

const VALUE_FLAGS: ReadonlySet<string> = new Set(["--url", "--token", "--home"]);

/** Index of the first word that is not a global flag or its value; the length of `argv` if there is none. */
export function commandIndex(argv: readonly string[]): number {
  let index = 0;
  while (index < argv.length && argv[index]?.startsWith("-")) index += VALUE_FLAGS.has(argv[index] as string) ? 2 : 1;
  return Math.min(index, argv.length);
}

/** The name that an alias stands for; any other word is returned as it is. */
export const commandName = (word: string): string => (Object.hasOwn(ALIASES, word) ? (ALIASES[word] as string) : word);

/** The program with the one command that `word` names, or with all of them if it names none. */
export async function buildProgram(cli: Cli, word: string | undefined): Promise<Command> {
  const program = globalProgram(cli);
  const name = commandName(word ?? "");
  const loaders = Object.hasOwn(COMMANDS, name) ? [COMMANDS[name]] : Object.values(COMMANDS);
  const modules = await Promise.all(loaders.map((load) => load?.()));
  for (const module of modules) module?.register(program, cli);
  return program;
}

function globalProgram(cli: Cli): Command {
  const program = new Command("hob")
    .description("Linux computers made in a blink, kept for good, on your own machines")
    .usage("[options] COMMAND")
    .option("--url <url>", "URL of the daemon (default: HOB_URL, else the daemon of the home directory)")
    .option("--token <token>", "bearer token (default: HOB_TOKEN, else the token in the home directory)")
    .option("--home <dir>", "where Hob keeps its state (default: HOB_HOME, else ~/.local/share/hob)")
    .helpOption("-h, --help", "show help")
    .helpCommand("help [command]", "show help for a command")
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => cli.stdout.write(text),
      // Errors of the command line are reported by main, in the one form that all errors have. What else comes here is
      // the help of a group of commands that was called without one.
      writeErr: (text) => text.startsWith("error:") || cli.stderr.write(text),
    });
  withExample(program, "hob create web && hob console web");
  return program;
}

/** Adds an example to a command's help. */
export function withExample(command: Command, ...examples: string[]): Command {
  return command.addHelpText("after", `\nExample${examples.length > 1 ? "s" : ""}:\n${examples.map((line) => `  $ ${line}`).join("\n")}`);
}
