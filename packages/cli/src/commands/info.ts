import type { HobClient } from "@hob/client";
import type { StorageStatus } from "@hob/protocol/api/storage.ts";
import { HobError } from "@hob/protocol/errors.ts";
import type { Sprite, SpriteActivity } from "@hob/protocol/sprites.ts";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { formatAge, formatDuration, printable } from "../output/format.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

interface InfoFlags extends GlobalFlags {
  json?: boolean;
  sprite?: string;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("info")
    .alias("status")
    .description("Show one sprite")
    .argument("[name]", "name of the sprite")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("--json", "print JSON");
  withExample(command, "hob info web");
  command.action((name: string | undefined, _flags: InfoFlags, self: Command) => info(cli, name, self.optsWithGlobals<InfoFlags>()));
};

async function info(cli: Cli, operand: string | undefined, flags: InfoFlags): Promise<void> {
  const { name } = takeSpriteName(operand === undefined ? [] : [operand], flags.sprite, "hob info NAME");
  const client = await cli.client(flags);
  const [sprite, activity] = await Promise.all([client.get(name), client.activity(name).catch(unlessUnknown)]);
  const storage = await storageOf(client, sprite);
  if (flags.json) {
    return cli.printJson({ ...sprite, ...(activity === undefined ? {} : { activity }), ...(storage === undefined ? {} : { storage }) });
  }
  const rows = [
    ...describe(sprite),
    ...(activity === undefined ? [] : describeActivity(activity, Date.now())),
    ...(storage === undefined ? [] : describeStorage(storage)),
  ];
  const width = Math.max(...rows.map(([key]) => key.length)) + 2;
  for (const [key, value] of rows) cli.print(`${cli.style.bold(key.padEnd(width))}${value}`);
}

/** A server that does not know the question shows the rest even so; a sprite that is not there fails on the rest. */
function unlessUnknown(thrown: unknown): undefined {
  if (thrown instanceof HobError && thrown.code === "not_found") return undefined;
  throw thrown;
}

/** Asked only of a sprite that runs: the question would wake it. Without an answer the rest is shown even so. */
async function storageOf(client: HobClient, { name, status }: Sprite): Promise<StorageStatus | undefined> {
  if (status !== "running") return undefined;
  return (await client.storage()).status(name).catch(() => undefined);
}

/** How far the object store is behind. */
function describeStorage({ enabled, durable_lag_seconds, pending_checkpoints, error }: StorageStatus): [key: string, value: string][] {
  if (!enabled) return [["durable", "no: there is no object store"]];
  const lag = durable_lag_seconds === 0 ? "all of it" : `all but the last ${formatDuration(durable_lag_seconds * 1_000)}`;
  const rows: [string, string][] = [["durable", lag]];
  if (pending_checkpoints.length > 0) rows.push(["not durable yet", pending_checkpoints.map(printable).join(", ")]);
  if (error !== null) rows.push(["object store", printable(error)]);
  return rows;
}

/** Why it is awake, or until when its memory is kept. */
function describeActivity(activity: SpriteActivity, nowMs: number): [key: string, value: string][] {
  const { status, holders, idle_since, sleeps_at, cold_at, behind, last_wake, idle_timeout_seconds } = activity;
  const ago = (time: string) => `${formatAge(Date.parse(time), nowMs)} ago`;
  const rows: [string, string][] = holders.map(({ kind, label, since }) => ["held awake by", `${kind} ${label}, since ${ago(since)}`]);
  if (status === "running" && idle_since !== null) rows.push(["idle since", ago(idle_since)]);
  if (status === "running" && idle_timeout_seconds === 0) rows.push(["sleeps", "never by itself"]);
  else if (sleeps_at !== null) rows.push(["sleeps", `in ${formatDuration(Math.max(0, Date.parse(sleeps_at) - nowMs))}, unless used`]);
  else if (status === "running") rows.push(["sleeps", `${formatDuration(idle_timeout_seconds * 1_000)} after its last use`]);
  if (status === "warm") rows.push(["memory kept", cold_at === null ? "until it wakes" : `until ${cold_at}`]);
  if (behind) rows.push(["durable", describeBehind(behind, nowMs)]);
  if (last_wake !== null) rows.push(["last wake", `${ago(last_wake.at)}, by ${last_wake.reason}`]);
  return rows;
}

/** Of a sprite that sleeps while the object store lacks something of it. */
function describeBehind({ since, checkpoints, error }: NonNullable<SpriteActivity["behind"]>, nowMs: number): string {
  const what = [
    `what was written since ${formatAge(Date.parse(since), nowMs)} ago`,
    ...(checkpoints > 0 ? [`${checkpoints} checkpoints`] : []),
  ];
  return `all but ${what.join(" and ")}; the sprite is woken for it when the store answers${error === null ? "" : ` (${printable(error)})`}`;
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
