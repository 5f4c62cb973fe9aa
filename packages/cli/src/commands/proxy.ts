import type { Forward } from "@hob/client";
import { HobError } from "@hob/protocol/errors.ts";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { type PortMapping, parsePortMapping, parseTarget } from "../port-arguments.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";
import { onSignals, statusOfSignal } from "../terminal/signals.ts";

interface ProxyFlags extends GlobalFlags {
  sprite?: string;
  stdio?: string;
}

const USAGE = "hob proxy NAME PORT | LOCAL:PORT …";

export const register: Register = (program, cli) => {
  const command = program
    .command("proxy")
    .description("Make ports of a sprite reachable at local ports, until Ctrl+C")
    .usage("[options] NAME [LOCAL:]PORT...")
    .argument("[words...]", "sprite, then ports: 8080, 3000:8080, 0:8080 for any free local port")
    .option("-s, --sprite <name>", "name of the sprite; then all operands are ports")
    .option("-W, --stdio <host:port>", "connect standard input and output to one port instead; no host means the sprite");
  withExample(
    command,
    "hob proxy web 8080",
    "hob proxy web 5433:5432 3000",
    'ssh -o ProxyCommand="hob proxy web -W localhost:22" sprite@web',
  );
  command.action((words: string[], _flags: ProxyFlags, self: Command) => proxy(cli, words, self.optsWithGlobals<ProxyFlags>()));
};

async function proxy(cli: Cli, words: readonly string[], flags: ProxyFlags): Promise<void> {
  const { name, rest } = takeSpriteName(words, flags.sprite, USAGE);
  if (flags.stdio !== undefined) {
    if (rest.length > 0) throw new HobError("usage", "-W takes one target and no ports beside it", { hint: "hob proxy NAME -W HOST:PORT" });
    return joinStdio(cli, name, flags.stdio, flags);
  }
  if (rest.length === 0) throw new HobError("usage", `no port of ${name} named`, { hint: USAGE });
  await serve(cli, name, rest.map(parsePortMapping), flags);
}

async function serve(cli: Cli, name: string, mappings: readonly PortMapping[], flags: ProxyFlags): Promise<void> {
  const client = await cli.client(flags);
  // Tells a wrong name now and not at the first connection.
  await client.get(name);
  using forwards = new DisposableStack();
  for (const { local, remote } of mappings) {
    const forward: Forward = await client.forwardPort(name, {
      localPort: local,
      target: { port: remote },
      onError: (error) => cli.note(`hob: port ${remote}: ${error instanceof Error ? error.message : String(error)}`),
    });
    forwards.use(forward);
    cli.print(`127.0.0.1:${forward.localPort} -> ${name}:${remote}`);
  }
  // The reader of these lines may go away; the ports stay.
  cli.onBrokenPipe = undefined;
  cli.exitStatus = await new Promise<number>((resolve) => {
    const end = (signal: Parameters<typeof statusOfSignal>[0]) => resolve(signal === "SIGINT" ? 0 : statusOfSignal(signal));
    forwards.defer(onSignals(end, end));
  });
}

async function joinStdio(cli: Cli, name: string, target: string, flags: ProxyFlags): Promise<void> {
  const inside = await (await cli.client(flags)).openProxy(name, parseTarget(target));
  const { pipeline } = await import("node:stream/promises");
  // Standard input may stay open for ever: the end of what comes from inside is the end.
  pipeline(cli.stdin, inside).catch(() => {});
  cli.onBrokenPipe = () => inside.destroy();
  await pipeline(inside, cli.stdout, { end: false });
}
