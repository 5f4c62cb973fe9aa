import type { Checkpoint } from "@hob/protocol/api/checkpoints.ts";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { formatAge, formatDuration } from "../output/format.ts";
import { withProgress } from "../output/progress.ts";
import { renderTable } from "../output/table.ts";
import { type Register, withExample } from "../program.ts";
import { takeCheckpoint, takeSpriteName } from "../sprite-argument.ts";
import { addHistory, listFiles } from "./checkpoint-history.ts";
import { addRestore } from "./restore.ts";

interface CheckpointFlags extends GlobalFlags {
  sprite?: string;
  json?: boolean;
  comment?: string;
  wait?: boolean;
  includeAuto?: boolean;
  history?: string;
}

export const register: Register = (program, cli) => {
  const group = program.command("checkpoint").description("Keep the state of a sprite's files, and go back to it");
  withExample(group, 'hob checkpoint create web --comment "before the upgrade"', "hob restore web v1");
  const add = (
    name: string,
    description: string,
    operands: "NAME" | "NAME ID",
    run: (operands: string[], flags: CheckpointFlags) => unknown,
  ) => {
    const command = group.command(name).description(description).argument("[name]", "name of the sprite");
    if (operands === "NAME ID") command.argument("[id]", "id of the checkpoint, such as v3");
    command.option("-s, --sprite <name>", "name of the sprite");
    command.action(async (...given: unknown[]) => {
      const self = given.at(-1) as Command;
      await run(self.args, self.optsWithGlobals<CheckpointFlags>());
    });
    return command;
  };
  const json = "print JSON";
  withExample(
    add("create", "Keep the present state of the files", "NAME", (operands, flags) => create(cli, operands, flags))
      .option("--comment <text>", "what it is for")
      .option("--wait", "until it is durable: in the object store, and not only taken")
      .option("--json", json),
    'hob checkpoint create web --comment "works"',
  );
  withExample(
    add("list", "List checkpoints, newest first; with NAME@ID:/PATH, the files of one", "NAME", (operands, flags) =>
      list(cli, operands, flags),
    )
      .alias("ls")
      .option("--include-auto", "automatic ones too")
      .option("--history <id>", "only this one and those that derive from it")
      .option("--json", json),
    "hob checkpoint list web --include-auto",
    "hob checkpoint ls web@v3:/etc",
  );
  withExample(
    add("info", "Show one checkpoint", "NAME ID", (operands, flags) => info(cli, operands, flags))
      .alias("get")
      .option("--json", json),
    "hob checkpoint info web v3",
  );
  withExample(
    add("delete", "Delete one checkpoint", "NAME ID", (operands, flags) => remove(cli, operands, flags)),
    "hob checkpoint delete web v3",
  );
  addHistory(group, cli);
  addRestore(group, cli, "hob checkpoint restore web v3");
};

const checkpointsOf = async (cli: Cli, flags: GlobalFlags, name: string) => (await cli.client(flags)).checkpoints(name);

async function create(cli: Cli, operands: readonly string[], flags: CheckpointFlags): Promise<void> {
  const { name } = takeSpriteName(operands, flags.sprite, "hob checkpoint create NAME");
  const client = await cli.client(flags);
  const checkpoints = await client.checkpoints(name);
  const { id = "?", pauseMs } = await withProgress(cli, `Keeping the state of ${name}`, checkpoints.create(flags.comment));
  const pause = pauseMs === undefined ? "" : `; its files stood still for ${formatDuration(pauseMs)}`;
  const created = `${cli.style.green("Created")} checkpoint ${cli.style.bold(id)} of ${name}${pause}`;
  if (!flags.wait) return flags.json ? cli.printJson({ id, pauseMs }) : cli.print(created);
  // Said before the wait: it is taken, whatever becomes of the upload.
  if (!flags.json) cli.print(created);
  const storage = await client.storage();
  await withProgress(cli, `Taken; bringing ${id} into the object store`, storage.sync(name));
  if (flags.json) cli.printJson({ id, pauseMs, durable: true });
  else cli.print(`${cli.style.green("Durable:")} ${id} is in the object store`);
}

async function list(cli: Cli, operands: readonly string[], flags: CheckpointFlags): Promise<void> {
  // `hob checkpoint ls web@v3:/etc` is asked of the same name: what has a path lists files.
  const [place = ""] = operands;
  if (place.includes("@") || place.includes(":/")) return listFiles(cli, place.includes(":") ? place : `${place}:/`, flags);
  const { name } = takeSpriteName(operands, flags.sprite, "hob checkpoint list NAME");
  const listed = await (await checkpointsOf(cli, flags, name)).list({ includeAuto: flags.includeAuto, history: flags.history });
  if (flags.json) return cli.printJson(listed);
  if (listed.every(({ id }) => id === "Current")) cli.note(`No checkpoints of ${name} yet: 'hob checkpoint create ${name}' makes one.`);
  const now = Date.now();
  const age = ({ create_time }: Checkpoint) => formatAge(Date.parse(create_time), now);
  const rows = listed.map((one) => [one.id, one.source_id || "-", age(one), durability(one), describe(one)]);
  cli.print(
    renderTable(["ID", "FROM", "AGE", "DURABLE", "COMMENT"], rows, (cell, _column, row) => (row < 0 ? cli.style.bold(cell) : cell)),
  );
}

async function info(cli: Cli, operands: readonly string[], flags: CheckpointFlags): Promise<void> {
  const { name, id } = takeCheckpoint(operands, flags.sprite, "hob checkpoint info NAME ID");
  const found = await (await checkpointsOf(cli, flags, name)).get(id);
  if (flags.json) return cli.printJson(found);
  const rows = [
    ["id", found.id],
    ["created", found.create_time],
    ["comment", describe(found)],
    ["derives from", found.history.join(", ") || "-"],
    ["automatic", found.is_auto ? "yes" : "no"],
    ["durable", durability(found)],
    ...(found.health === "" ? [] : [["health", found.health]]),
  ];
  const width = Math.max(...rows.map(([label = ""]) => label.length));
  for (const [label = "", value = ""] of rows) cli.print(`${cli.style.dim(label.padEnd(width))}  ${value}`);
}

async function remove(cli: Cli, operands: readonly string[], flags: CheckpointFlags): Promise<void> {
  const { name, id } = takeCheckpoint(operands, flags.sprite, "hob checkpoint delete NAME ID");
  const checkpoints = await checkpointsOf(cli, flags, name);
  await withProgress(cli, `Deleting checkpoint ${id} of ${name}`, checkpoints.delete(id));
  cli.print(`Deleted checkpoint ${id} of ${name}`);
}

/** Whether the object store has it; the live state is never there as such. */
const durability = ({ durable }: Checkpoint): string => (durable === undefined ? "-" : durable ? "yes" : "not yet");

/** Comments come from whoever made the checkpoint: they are one line, and no commands to the terminal. */
function describe({ comment, reason }: Checkpoint): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is to be removed
  const text = comment.replace(/[\x00-\x1f\x7f-\x9f]+/g, " ");
  return text || (reason === undefined ? "" : `(${reason})`);
}
