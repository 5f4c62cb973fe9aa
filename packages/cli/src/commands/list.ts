import type { HobClient } from "@hob/client";
import type { Sprite, SpriteWatchLine } from "@hob/protocol/sprites.ts";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { formatAge } from "../output/format.ts";
import { renderTable } from "../output/table.ts";
import { type Register, withExample } from "../program.ts";

interface ListFlags extends GlobalFlags {
  prefix?: string;
  json?: boolean;
  watch?: boolean;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("list")
    .alias("ls")
    .description("List sprites")
    .option("--prefix <prefix>", "only names that begin with this")
    .option("-w, --watch", "go on and print every change; with --json, one object a line")
    .option("--json", "print a JSON array");
  withExample(command, "hob list --prefix web-", "hob list -w");
  command.action((_flags: ListFlags, self: Command) => list(cli, self.optsWithGlobals<ListFlags>()));
};

async function list(cli: Cli, flags: ListFlags): Promise<void> {
  const client = await cli.client(flags);
  if (flags.watch) return watch(cli, client, flags);
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

/** Until somebody ends it, or the daemon ends. */
async function watch(cli: Cli, client: HobClient, flags: ListFlags): Promise<void> {
  for await (const line of client.watch({ prefix: flags.prefix })) {
    if (flags.json) cli.print(JSON.stringify(line));
    else if (line.name !== undefined) cli.print(watchText(cli, line));
  }
}

/** A sprite that is gone has no status any more. */
function watchText(cli: Cli, { type, name = "", status = "cold", timestamp }: SpriteWatchLine): string {
  const at = timestamp === null ? "" : `${new Date(timestamp).toTimeString().slice(0, 8)}  `;
  const what = type === "deleted" ? cli.style.red("deleted") : statusPaint(cli, status)(status);
  return `${cli.style.dim(at)}${cli.style.bold(name)}  ${what}${type === "created" || type === "updated" ? `  ${type}` : ""}`;
}

const statusPaint = (cli: Cli, status: Sprite["status"]) =>
  ({ running: cli.style.green, warm: cli.style.yellow, cold: cli.style.dim })[status];

function spriteTable(cli: Cli, sprites: readonly Sprite[], nowMs: number): string {
  const { bold } = cli.style;
  const rows = sprites.map((sprite) => [sprite.name, sprite.status, formatAge(Date.parse(sprite.created_at), nowMs), sprite.url]);
  return renderTable(["NAME", "STATUS", "AGE", "URL"], rows, (cell, column, row) => {
    if (row < 0) return bold(cell);
    const status = sprites[row]?.status;
    return column === 1 && status !== undefined ? (statusPaint(cli, status) ?? String)(cell) : cell;
  });
}
