import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { HobError } from "@hob/protocol/errors.ts";
import { Argument, type Command } from "commander";
import type { Cli } from "../cli.ts";
import { type GlobalFlags, type KeptSettings, keptSettingsPath, readDaemonRecord, readKeptSettings, resolveHome } from "../config.ts";
import { type Register, withExample } from "../program.ts";

const KEYS = ["url", "token"] as const;
type Key = (typeof KEYS)[number];

interface ConfigFlags extends GlobalFlags {
  json?: boolean;
}

export const register: Register = (program, cli) => {
  const config = program.command("config").description("Show and keep which daemon to talk to (config.json in the home directory)");
  withExample(config, "hob config set url https://hob.example.net", "hob config set token - < token.txt");
  const show = config.command("show").description("Show what is used, and where it comes from").option("--json", "print JSON");
  withExample(show, "hob config show");
  show.action((_flags: ConfigFlags, self: Command) => showSettings(cli, self.optsWithGlobals<ConfigFlags>()));
  const set = config
    .command("set")
    .description("Keep a setting")
    .addArgument(new Argument("<key>", "setting").choices([...KEYS]))
    .argument("<value>", "its value; - reads it from standard input, so that it is in no history");
  withExample(set, "hob config set url http://10.0.0.5:7788");
  set.action((key: Key, value: string, _flags: ConfigFlags, self: Command) => setOne(cli, key, value, self.optsWithGlobals<ConfigFlags>()));
  const unset = config
    .command("unset")
    .description("Forget a setting, or all of them")
    .addArgument(new Argument("[key]", "setting").choices([...KEYS]));
  withExample(unset, "hob config unset");
  unset.action((key: Key | undefined, _flags: ConfigFlags, self: Command) => unsetOne(cli, key, self.optsWithGlobals<ConfigFlags>()));
};

interface Shown {
  value: string | null;
  from: string;
}

function showSettings(cli: Cli, flags: ConfigFlags): void {
  const home = resolveHome(flags, cli.env);
  const kept = readKeptSettings(home);
  const daemon = readDaemonRecord(home);
  const first = (...sources: [value: string | undefined, from: string][]): Shown => {
    const [value, from] = sources.find(([each]) => each !== undefined && each !== "") ?? [undefined, "nowhere"];
    return { value: value ?? null, from };
  };
  const file = keptSettingsPath(home);
  const url = first([flags.url, "--url"], [cli.env.HOB_URL, "HOB_URL"], [kept.url, file], [daemon?.url, "the daemon of this home"]);
  const token = first([flags.token, "--token"], [cli.env.HOB_TOKEN, "HOB_TOKEN"], [kept.token, file]);
  const shown = { home: first([home, "--home, HOB_HOME or the default"]), url, token: { ...token, value: maskToken(token.value) } };
  if (flags.json) {
    cli.printJson(shown);
    return;
  }
  if (token.value === null && url.from === "the daemon of this home") shown.token = { value: "the one in the home directory", from: home };
  for (const [key, { value, from }] of Object.entries(shown)) {
    cli.print(`${cli.style.bold(key.padEnd(7))}${value ?? "-"}  ${cli.style.dim(`(${from})`)}`);
  }
}

/** The id of a token is no secret, the rest of it is. */
const maskToken = (token: string | null): string | null => (token === null ? null : `${/^([^/]+\/[^/]+\/)./.exec(token)?.[1] ?? ""}…`);

async function setOne(cli: Cli, key: Key, text: string, flags: ConfigFlags): Promise<void> {
  const value = (text === "-" ? Buffer.concat(await cli.stdin.toArray()).toString("utf8") : text).trim();
  // The same checks as when it is used, so that a mistake is met here.
  const { HobClient } = await import("@hob/client/client.ts");
  new HobClient(key === "url" ? { url: value } : { url: "http://127.0.0.1", token: value });
  const home = resolveHome(flags, cli.env);
  write(home, { ...readKeptSettings(home), [key]: value });
  cli.print(`Kept ${key} in ${keptSettingsPath(home)}`);
}

function unsetOne(cli: Cli, key: Key | undefined, flags: ConfigFlags): void {
  const home = resolveHome(flags, cli.env);
  const { [key ?? "url"]: _, ...rest } = key === undefined ? ({} as KeptSettings) : readKeptSettings(home);
  write(home, rest);
  cli.print(key === undefined ? "Nothing is kept any more" : `${key} is not kept any more`);
}

function write(home: string, settings: KeptSettings): void {
  const path = keptSettingsPath(home);
  try {
    // Removed first, so that a file of another mode does not keep it.
    rmSync(path, { force: true });
    if (Object.keys(settings).length === 0) return;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileSync(path, `${JSON.stringify(settings)}\n`, { mode: 0o600 });
  } catch (cause) {
    throw new HobError("home_unusable", `write ${path}: ${(cause as NodeJS.ErrnoException).code}`, { cause });
  }
}
