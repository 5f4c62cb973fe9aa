import type { Command } from "commander";
import { integerBetween } from "../arguments.ts";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { showEvents } from "../output/service-events.ts";
import { type Register, withExample } from "../program.ts";
import { takeServiceName } from "../sprite-argument.ts";

interface LogsFlags extends GlobalFlags {
  sprite?: string;
  follow?: boolean;
  lines?: number;
  timestamps?: boolean;
  json?: boolean;
}

/** As long as the API knows durations: until somebody presses Ctrl+C. */
const WITHOUT_END = "575h";

export const register: Register = (program, cli) => {
  const command = program
    .command("logs")
    .description("Show what a service of a sprite wrote")
    .usage("[options] NAME SERVICE")
    .argument("[name]", "name of the sprite")
    .argument("[service]", "name of the service")
    .option("-s, --sprite <name>", "name of the sprite; then the first operand is the service")
    .option("-f, --follow", "go on showing what it writes")
    .option("-n, --lines <number>", "the newest lines only", integerBetween(0, 999_999_999))
    .option("-t, --timestamps", "show when each line was written")
    .option("--json", "print one JSON object per line");
  withExample(command, "hob logs web api", "hob logs web api -f -n 20");
  command.action((first: string | undefined, second: string | undefined, _flags: LogsFlags, self: Command) =>
    logs(cli, [first, second], self.optsWithGlobals<LogsFlags>()),
  );
};

async function logs(cli: Cli, operands: readonly (string | undefined)[], flags: LogsFlags): Promise<void> {
  const { name, service } = takeServiceName(operands, flags.sprite, "hob logs NAME SERVICE");
  const services = await (await cli.client(flags)).services(name);
  const events = services.logs(service, { lines: flags.lines, duration: flags.follow ? WITHOUT_END : undefined });
  await showEvents(cli, service, events, flags);
}
