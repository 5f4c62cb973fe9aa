import type { Sprite } from "@hob/protocol/sprites.ts";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

interface InfoFlags extends GlobalFlags {
  json?: boolean;
  sprite?: string;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("info")
    .description("Show one sprite")
    .argument("[name]", "name of the sprite")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("--json", "print JSON");
  withExample(command, "hob info web");
  command.action((name: string | undefined, _flags: InfoFlags, self: Command) => info(cli, name, self.optsWithGlobals<InfoFlags>()));
};

async function info(cli: Cli, operand: string | undefined, flags: InfoFlags): Promise<void> {
  const { name } = takeSpriteName(operand === undefined ? [] : [operand], flags.sprite, "hob info NAME");
  const sprite = await (await cli.client(flags)).get(name);
  if (flags.json) return cli.printJson(sprite);
  const rows = describe(sprite);
  const width = Math.max(...rows.map(([key]) => key.length)) + 2;
  for (const [key, value] of rows) cli.print(`${cli.style.bold(key.padEnd(width))}${value}`);
}

function describe(sprite: Sprite): [key: string, value: string][] {
  const { config, labels = [], environment = {} } = sprite;
  const variables = Object.entries(environment).map(([key, value]): [string, string] => ["environment", `${key}=${value}`]);
  return [
    ["name", sprite.name],
    ["id", sprite.id],
    ["status", sprite.status],
    ["url", sprite.url],
    ["url access", sprite.url_settings?.auth ?? "-"],
    ["created", sprite.created_at],
    ["last running", sprite.last_running_at ?? "-"],
    ...(config === undefined
      ? []
      : ([["machine", `${config.cpus} CPUs, ${config.ram_mb} MB memory, ${config.storage_gb} GB disk`]] as [string, string][])),
    ["version", sprite.version ?? "-"],
    ["labels", labels.length === 0 ? "-" : labels.join(", ")],
    ...variables,
  ];
}
