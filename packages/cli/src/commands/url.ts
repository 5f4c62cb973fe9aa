import { type Command, Option } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

interface UrlFlags extends GlobalFlags {
  sprite?: string;
  open?: boolean;
  ticket?: boolean;
  json?: boolean;
}

interface UpdateFlags extends GlobalFlags {
  sprite?: string;
  auth: "public" | "sprite";
}

const OPEN_TIMEOUT_MS = 10_000;

export const register: Register = (program, cli) => {
  const url = program
    .command("url")
    .description("Show or open the URL of a sprite, where its web server answers")
    .argument("[name]", "name of the sprite")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("--open", "open it in a browser, signed in")
    .option("--ticket", "print a link that signs a browser in, once, within a minute")
    .option("--json", "print JSON");
  withExample(url, "hob url web", "hob url web --open", "hob url update web --auth public");
  url.action((name: string | undefined, _flags: UrlFlags, self: Command) => show(cli, name, self.optsWithGlobals<UrlFlags>()));
  const update = url
    .command("update")
    .description("Change who may see the URL")
    .argument("[name]", "name of the sprite")
    .option("-s, --sprite <name>", "name of the sprite")
    .addOption(
      new Option("--auth <who>", "public: everybody; sprite: who has a token or is signed in")
        .choices(["public", "sprite"])
        .makeOptionMandatory(),
    );
  withExample(update, "hob url update web --auth public");
  update.action((name: string | undefined, _flags: UpdateFlags, self: Command) => change(cli, name, self.optsWithGlobals<UpdateFlags>()));
};

async function show(cli: Cli, operand: string | undefined, flags: UrlFlags): Promise<void> {
  const { name } = takeSpriteName(operand === undefined ? [] : [operand], flags.sprite, "hob url NAME");
  const client = await cli.client(flags);
  if (flags.open || flags.ticket) {
    const { url, expires_at } = await client.createUrlTicket(name);
    if (flags.ticket) return flags.json ? cli.printJson({ url, expires_at }) : cli.print(url);
    return open(cli, url);
  }
  const { url, url_settings } = await client.get(name);
  if (flags.json) return cli.printJson({ url, auth: url_settings.auth });
  cli.print(url);
}

async function open(cli: Cli, url: string): Promise<void> {
  const { SystemCommandRunner } = await import("@hob/linux");
  try {
    await new SystemCommandRunner().run({ argv: ["xdg-open", url], timeoutMs: OPEN_TIMEOUT_MS });
  } catch {
    cli.note("No browser could be started. Open this link within a minute; it works once:");
    cli.print(url);
  }
}

async function change(cli: Cli, operand: string | undefined, flags: UpdateFlags): Promise<void> {
  const { name } = takeSpriteName(operand === undefined ? [] : [operand], flags.sprite, "hob url update NAME --auth public|sprite");
  const sprite = await (await cli.client(flags)).update(name, { url_settings: { auth: flags.auth } });
  const who = sprite.url_settings.auth === "public" ? "everybody" : "who has a token or is signed in";
  cli.print(`${sprite.url} is open to ${who}`);
}
