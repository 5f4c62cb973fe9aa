import { MACHINE_LIMITS } from "@hob/protocol/limits.ts";
import type { CreateSpriteRequest } from "@hob/protocol/sprites.ts";
import type { Command } from "commander";
import { collectAssignment, collectText, durationSeconds, integerBetween } from "../arguments.ts";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { formatDuration } from "../output/format.ts";
import { withProgress } from "../output/progress.ts";
import { type Register, withExample } from "../program.ts";

interface CreateFlags extends GlobalFlags {
  cpus?: number;
  ramMb?: number;
  storageGb?: number;
  label?: string[];
  env?: Record<string, string>;
  idleTimeout?: number;
  json?: boolean;
}

const { cpus, ramMb, storageGb } = MACHINE_LIMITS;

export const register: Register = (program, cli) => {
  const command = program
    .command("create")
    .description("Make a sprite")
    .argument("<name>", "1 to 63 characters a-z, 0-9 and '-'")
    .option("--cpus <n>", `virtual CPUs (${cpus.min} to ${cpus.max}, default ${cpus.default})`, integerBetween(cpus.min, cpus.max))
    .option("--ram-mb <n>", `memory (${ramMb.min} to ${ramMb.max} MB, default ${ramMb.default})`, integerBetween(ramMb.min, ramMb.max))
    .option(
      "--storage-gb <n>",
      `disk (${storageGb.min} to ${storageGb.max} GB, default ${storageGb.default})`,
      integerBetween(storageGb.min, storageGb.max),
    )
    .option("--label <label>", "label; may be repeated", collectText)
    .option("--env <name=value>", "environment variable of every command; may be repeated", collectAssignment)
    .option("--idle-timeout <time>", "time without use after which it sleeps; 0: never (default: as the daemon has it)", durationSeconds)
    .option("--json", "print the sprite as JSON");
  withExample(command, "hob create web --ram-mb 2048 --env NODE_ENV=production");
  command.action((name: string, _flags: CreateFlags, self: Command) => create(cli, name, self.optsWithGlobals<CreateFlags>()));
};

async function create(cli: Cli, name: string, flags: CreateFlags): Promise<void> {
  const client = await cli.client(flags);
  const start = performance.now();
  const sprite = await withProgress(cli, `Creating ${name}`, client.create(createRequest(name, flags)));
  const took = formatDuration(performance.now() - start);
  if (flags.json) return cli.printJson(sprite);
  cli.print(`${cli.style.green("Created")} ${cli.style.bold(sprite.name)} in ${took}`);
  cli.print(sprite.url);
}

function createRequest(name: string, flags: CreateFlags): CreateSpriteRequest {
  const config = {
    ...(flags.cpus === undefined ? {} : { cpus: flags.cpus }),
    ...(flags.ramMb === undefined ? {} : { ram_mb: flags.ramMb }),
    ...(flags.storageGb === undefined ? {} : { storage_gb: flags.storageGb }),
  };
  return {
    name,
    ...(Object.keys(config).length === 0 ? {} : { config }),
    ...(flags.env === undefined ? {} : { environment: flags.env }),
    ...(flags.label === undefined ? {} : { labels: flags.label }),
    ...(flags.idleTimeout === undefined ? {} : { idle_timeout_seconds: flags.idleTimeout }),
  };
}
