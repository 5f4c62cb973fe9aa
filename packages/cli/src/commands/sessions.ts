import type { KillEvent, SessionItem } from "@hob/protocol/api/exec.ts";
import { HobError } from "@hob/protocol/errors.ts";
import type { Command } from "commander";
import { integerBetween } from "../arguments.ts";
import { type Cli, EXIT } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { reportFailure } from "../output/failure.ts";
import { formatAge, formatBytes, printable } from "../output/format.ts";
import { renderTable } from "../output/table.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";
import { addAttach } from "./attach.ts";

interface ListFlags extends GlobalFlags {
  sprite?: string;
  json?: boolean;
}

interface KillFlags extends ListFlags {
  signal?: string;
  timeout: number;
}

const COMMAND_SHOWN = 60;
const KILL_USAGE = "hob sessions kill NAME ID...";

export const register: Register = (program, cli) => {
  const sessions = program
    .command("sessions")
    .alias("s")
    .description("List the commands that run in a sprite, come back to them, end them");
  withExample(sessions, "hob sessions list web");
  const list = sessions
    .command("list")
    .alias("ls")
    .description("List the sessions that run")
    .argument("[name]", "name of the sprite")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("--json", "print a JSON array");
  withExample(list, "hob sessions list web");
  list.action((name: string | undefined, _flags: ListFlags, self: Command) => listAll(cli, name, self.optsWithGlobals<ListFlags>()));
  addAttach(sessions, cli);
  const kill = sessions
    .command("kill")
    .description("End sessions: a signal, and SIGKILL if that does not help")
    .argument("[name]", "name of the sprite")
    .argument("[ids...]", "of the sessions")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("--signal <signal>", "name or number of the signal", "SIGTERM")
    .option("--timeout <seconds>", "until SIGKILL; 0 only sends the signal", integerBetween(0, 3_600), 10)
    .option("--json", "print what happened as JSON");
  withExample(kill, "hob sessions kill web 7", "hob sessions kill web 7 --signal INT --timeout 0");
  kill.action((name: string | undefined, ids: string[], _flags: KillFlags, self: Command) =>
    killAll(cli, [...(name === undefined ? [] : [name]), ...ids], self.optsWithGlobals<KillFlags>()),
  );
};

async function listAll(cli: Cli, operand: string | undefined, flags: ListFlags): Promise<void> {
  const { name } = takeSpriteName(operand === undefined ? [] : [operand], flags.sprite, "hob sessions list NAME");
  const sessions = await (await cli.client(flags)).sessions(name);
  if (flags.json) return cli.printJson(sessions);
  if (sessions.length === 0) return cli.note(`No session runs in ${name}.`);
  const nowMs = Date.now();
  const rows = sessions.map((session) => toRow(session, nowMs));
  const header = ["ID", "CLIENT", "TTY", "AGE", "LAST", "OUTPUT", "COMMAND"];
  cli.print(renderTable(header, rows, (cell, _column, row) => (row < 0 ? cli.style.bold(cell) : cell)));
}

function toRow(session: SessionItem, nowMs: number): string[] {
  const command = printable(session.command);
  return [
    session.id,
    session.is_active ? "attached" : "-",
    session.tty ? "yes" : "no",
    formatAge(Date.parse(session.created), nowMs),
    formatAge(Date.parse(session.last_activity), nowMs),
    `${formatBytes(session.bytes_per_second)}/s`,
    command.length > COMMAND_SHOWN ? `${command.slice(0, COMMAND_SHOWN - 1)}…` : command,
  ];
}

async function killAll(cli: Cli, words: readonly string[], flags: KillFlags): Promise<void> {
  const { name, rest: ids } = takeSpriteName(words, flags.sprite, KILL_USAGE, 1);
  if (ids.length === 0) throw new HobError("usage", `no session of ${name} named`, { hint: KILL_USAGE });
  const client = await cli.client(flags);
  const told: Record<string, KillEvent[]> = {};
  for (const id of new Set(ids)) {
    try {
      const events: KillEvent[] = [];
      told[id] = events;
      for await (const event of client.killSession(name, id, { signal: flags.signal, timeoutSeconds: flags.timeout })) {
        events.push(event);
        if (event.type === "timeout") cli.note(`Session ${id}: ${printable(event.message)}`);
      }
      if (!flags.json) report(cli, id, events);
      if (events.some(({ type }) => type === "error")) cli.exitStatus = EXIT.failure;
    } catch (thrown) {
      // The others are still to be ended: each failure is said where it happens.
      cli.exitStatus = reportFailure(cli, thrown);
    }
  }
  if (flags.json) cli.printJson(told);
}

function report(cli: Cli, id: string, events: readonly KillEvent[]): void {
  for (const event of events) {
    if (event.type === "error") cli.print(`Session ${id}: ${printable(event.message)}`);
    else if (event.type === "complete" && event.exit_code !== undefined)
      cli.print(`Session ${id} has ended with status ${event.exit_code}`);
    else if (event.type === "complete" && !events.some(({ type }) => type === "error")) cli.print(`Session ${id} has the signal`);
  }
}
