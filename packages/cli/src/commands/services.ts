import type { Command } from "commander";
import { collectAssignment, collectText, integerBetween } from "../arguments.ts";
import { type Cli, EXIT } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { showEvents } from "../output/service-events.ts";
import { renderTable } from "../output/table.ts";
import { type Register, withExample } from "../program.ts";
import { takeServiceName, takeSpriteName } from "../sprite-argument.ts";

interface ServiceFlags extends GlobalFlags {
  sprite?: string;
  json?: boolean;
  duration?: string;
  timeout?: string;
}

export const register: Register = (program, cli) => {
  const services = program.command("services").description("Programs that a sprite keeps running");
  withExample(services, "hob services create web api --http-port 3000 -- python3 -m http.server 3000");
  registerReading(services, cli);
  registerCreate(services, cli);
  registerActions(services, cli);
};

/** Options and operands that all of them have. */
function subcommand(services: Command, name: string, description: string, usage: string): Command {
  return services
    .command(name)
    .description(description)
    .usage(`[options] ${usage}`)
    .option("-s, --sprite <name>", "name of the sprite; then the first operand is the service")
    .option("--json", "print JSON");
}

/** The sprite first: completion offers names of sprites there. */
const withServiceOperands = (command: Command): Command =>
  command.argument("[name]", "name of the sprite").argument("[service]", "name of the service");

function registerReading(services: Command, cli: Cli): void {
  const list = subcommand(services, "list", "List the services of a sprite and their states", "NAME").alias("ls");
  list.argument("[name]", "name of the sprite");
  withExample(list, "hob services list web");
  list.action((operand: string | undefined, _flags: ServiceFlags, self: Command) =>
    showAll(cli, operand, self.optsWithGlobals<ServiceFlags>()),
  );
  const get = withServiceOperands(subcommand(services, "get", "Show one service", "NAME SERVICE"));
  withExample(get, "hob services get web api");
  onService(get, async (name, service, flags) => {
    const found = await (await (await cli.client(flags)).services(name)).get(service);
    if (flags.json) return cli.printJson(found);
    const { state, cmd, args, env = {}, dir, needs, http_port } = found;
    const rows: [string, string | undefined][] = [
      ["name", found.name],
      ["command", [cmd, ...args].join(" ")],
      ["directory", dir],
      ["variables", Object.keys(env).join(" ") || undefined],
      ["needs", needs.join(" ") || undefined],
      ["HTTP port", http_port === null ? undefined : String(http_port)],
      ["status", state.status],
      ["pid", state.pid === undefined ? undefined : String(state.pid)],
      ["started", state.started_at],
      ["restarts", String(state.restart_count)],
      ["next restart", state.next_restart_at],
      ["error", state.error],
    ];
    for (const [key, value] of rows) if (value !== undefined) cli.print(`${key.padEnd(14)}${value}`);
  });
}

function registerCreate(services: Command, cli: Cli): void {
  const usage = "NAME SERVICE -- PROGRAM [ARGUMENTS]";
  const create = subcommand(services, "create", "Define or replace a service, start it and show its first output", usage)
    .argument("[name]", "name of the sprite")
    .argument("[service]", "name of the service")
    .argument("[command...]", "program and its arguments");
  addDefinitionOptions(create);
  withExample(
    create,
    "hob services create web db -- postgres -D /var/lib/data",
    "hob services create web api --needs db --http-port 3000 -- npm start",
  );
  create.action((first: string | undefined, second: string | undefined, rest: string[], _flags: unknown, self: Command) =>
    import("./services-create.ts").then(({ createService }) => createService(cli, [first, second, ...rest], self.optsWithGlobals())),
  );
}

function addDefinitionOptions(create: Command): void {
  create
    .option("--cmd <program>", "the program, instead of after --")
    .option("--args <list>", "its arguments, separated by commas; may be repeated", collectText)
    .option("--env <name=value>", "environment variable; may be repeated", collectAssignment)
    .option("--dir <dir>", "working directory inside the sprite (default: the user's home)")
    .option("--needs <list>", "services that are started before it, separated by commas; may be repeated", collectText)
    .option("--http-port <port>", "where the sprite's URL leads; for one service only", integerBetween(1, 65_535))
    .option("--duration <time>", "how long its output is shown (default: 5s)")
    .option("--no-stream", "do not show it");
}

function registerActions(services: Command, cli: Cli): void {
  const duration = (command: Command) => command.option("--duration <time>", "how long its output is shown (default: 5s)");
  const start = duration(
    withServiceOperands(subcommand(services, "start", "Start a service, and first those that it needs", "NAME SERVICE")),
  );
  withExample(start, "hob services start web api");
  onService(start, (name, service, flags) => act(cli, name, service, flags, "start"));
  const stop = withServiceOperands(subcommand(services, "stop", "Stop a service; it stays stopped until it is started", "NAME SERVICE"));
  stop.option("--timeout <time>", "how long it may take to end before it is killed (default: 10s)");
  withExample(stop, "hob services stop web api");
  onService(stop, (name, service, flags) => act(cli, name, service, flags, "stop"));
  const restart = duration(withServiceOperands(subcommand(services, "restart", "Stop a service and start it again", "NAME SERVICE")));
  withExample(restart, "hob services restart web api");
  onService(restart, (name, service, flags) => act(cli, name, service, flags, "restart"));
  const signal = withServiceOperands(subcommand(services, "signal", "Send a signal to a service", "NAME SERVICE SIGNAL"));
  signal.argument("[signal]", "such as HUP");
  withExample(signal, "hob services signal web api HUP");
  signal.action((...words: unknown[]) => sendSignal(cli, words));
  const remove = withServiceOperands(subcommand(services, "delete", "Stop a service and forget it; its log stays", "NAME SERVICE")).alias(
    "rm",
  );
  withExample(remove, "hob services delete web api");
  onService(remove, async (name, service, flags) => {
    await (await (await cli.client(flags)).services(name)).delete(service);
    if (flags.json) cli.printJson({ name: service, deleted: true });
    else cli.print(`${cli.style.green("Deleted")} ${cli.style.bold(service)} of ${name}`);
  });
}

function onService(command: Command, work: (name: string, service: string, flags: ServiceFlags) => Promise<void>): void {
  command.action(async (first: string | undefined, second: string | undefined, _flags: ServiceFlags, self: Command) => {
    const flags = self.optsWithGlobals<ServiceFlags>();
    const { name, service } = takeServiceName([first, second], flags.sprite, `hob services ${command.name()} NAME SERVICE`);
    await work(name, service, flags);
  });
}

async function showAll(cli: Cli, operand: string | undefined, flags: ServiceFlags): Promise<void> {
  const { name } = takeSpriteName(operand === undefined ? [] : [operand], flags.sprite, "hob services list NAME");
  const all = await (await (await cli.client(flags)).services(name)).list();
  if (flags.json) return cli.printJson(all);
  if (all.length === 0) return cli.note(`No services yet: 'hob services create ${name} SERVICE -- PROGRAM' makes one.`);
  const { bold, green, red, yellow, dim } = cli.style;
  const colours = { running: green, starting: yellow, stopping: yellow, failed: red, stopped: dim } as const;
  const rows = all.map(({ name: service, state, http_port, cmd, args }) => [
    service,
    state.status,
    String(state.pid ?? "-"),
    String(state.restart_count),
    String(http_port ?? "-"),
    [cmd, ...args].join(" ").replace(/\s+/g, " ").slice(0, 60),
  ]);
  const paint = (cell: string, column: number, row: number): string => {
    if (row < 0) return bold(cell);
    const status = all[row]?.state.status;
    return column === 1 && status !== undefined ? colours[status](cell) : cell;
  };
  cli.print(renderTable(["SERVICE", "STATUS", "PID", "RESTARTS", "PORT", "COMMAND"], rows, paint));
}

async function act(cli: Cli, name: string, service: string, flags: ServiceFlags, action: "start" | "stop" | "restart"): Promise<void> {
  const services = await (await cli.client(flags)).services(name);
  const status = await showEvents(cli, service, services[action](service, action === "stop" ? flags.timeout : flags.duration), flags);
  if (status !== EXIT.ok) cli.exitStatus = status;
}

async function sendSignal(cli: Cli, words: unknown[]): Promise<void> {
  const self = words.at(-1) as Command;
  const flags = self.optsWithGlobals<ServiceFlags>();
  const operands = words.slice(0, 3) as (string | undefined)[];
  const { name, service, rest } = takeServiceName(operands, flags.sprite, "hob services signal NAME SERVICE SIGNAL", 2);
  const signal = rest[0] ?? "TERM";
  await (await (await cli.client(flags)).services(name)).signal(service, signal);
  if (flags.json) cli.printJson({ name: service, signal });
  else cli.print(`Sent ${signal} to ${cli.style.bold(service)} of ${name}`);
}
