import type { Sprite } from "@hob/protocol/sprites.ts";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { formatAge } from "../output/format.ts";
import { renderTable } from "../output/table.ts";
import { type Register, withExample } from "../program.ts";

interface ListFlags extends GlobalFlags {
  prefix?: string;
  json?: boolean;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("list")
    .alias("ls")
    .description("List sprites")
    .option("--prefix <prefix>", "only names that begin with this")
    .option("--json", "print a JSON array");
  withExample(command, "hob list --prefix web-");
  command.action((_flags: ListFlags, self: Command) => list(cli, self.optsWithGlobals<ListFlags>()));
};

async function list(cli: Cli, flags: ListFlags): Promise<void> {
  const client = await cli.client(flags);
  const sprites: Sprite[] = [];
  for await (const sprite of client.list({ prefix: flags.prefix })) sprites.push(sprite);
  if (flags.json) return cli.printJson(sprites);
  if (sprites.length === 0) {
    cli.note(
      flags.prefix === undefined ? "No sprites yet: 'hob create NAME' makes one." : `No sprite's name begins with '${flags.prefix}'.`,
    );
    return;
  }
  cli.print(spriteTable(cli, sprites, Date.now()));
}

function spriteTable(cli: Cli, sprites: readonly Sprite[], nowMs: number): string {
  const { bold, green, yellow, dim } = cli.style;
  const statusColour = { running: green, warm: yellow, cold: dim } as const;
  const rows = sprites.map((sprite) => [sprite.name, sprite.status, formatAge(Date.parse(sprite.created_at), nowMs), sprite.url]);
  return renderTable(["NAME", "STATUS", "AGE", "URL"], rows, (cell, column, row) => {
    if (row < 0) return bold(cell);
    const status = sprites[row]?.status;
    return column === 1 && status !== undefined ? (statusColour[status] ?? String)(cell) : cell;
  });
}
