import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import type { NetworkLogEntry, NetworkPolicy, NetworkRule } from "@hob/protocol/api/policies.ts";
import { HobError } from "@hob/protocol/errors.ts";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { withProgress } from "../output/progress.ts";
import { renderTable } from "../output/table.ts";
import { withExample } from "../program.ts";
import { addSubcommand, type Invocation, type PolicyFlags, parseNumber, repeated } from "./subcommand.ts";

interface SetFlags extends PolicyFlags {
  allow?: string[];
  deny?: string[];
  defaults?: boolean;
  denyAll?: boolean;
  unrestricted?: boolean;
  file?: string;
}

interface LogFlags extends PolicyFlags {
  tail?: string;
  follow?: boolean;
}

export function registerNetwork(policy: Command, cli: Cli): void {
  const network = policy.command("network").description("The names that a sprite may reach");
  withExample(network, "hob policy network set web --allow github.com --allow '*.example.com'");
  addSubcommand(
    network,
    cli,
    { word: "get", description: "Show the rules", example: "hob policy network get web" },
    ({ policies, flags }: Invocation<PolicyFlags>) => show(cli, policies.network(), flags),
  ).option("--json", "print JSON");
  addSubcommand(
    network,
    cli,
    {
      word: "set",
      description: "Replace the rules; they are in force at once",
      example: "hob policy network set web --defaults --allow api.example.com",
    },
    (invocation: Invocation<SetFlags>) => set(cli, invocation),
  )
    .option("--allow <domain>", "allow a name, all names below one ('*.example.com'), or all ('*'); repeatable", repeated)
    .option("--deny <domain>", "deny likewise; alone, it leaves all other names allowed; repeatable", repeated)
    .option("--defaults", "allow what programs are usually fetched from, and AI services")
    .option("--deny-all", "let nothing through")
    .option("--unrestricted", "lift the policy")
    .option("--file <path>", 'read the policy from a file, or with - from standard input: {"rules":[…]}');
  addSubcommand(
    network,
    cli,
    {
      word: "log",
      description: "Show what was asked for and what was stopped; wakes the sprite",
      example: "hob policy network log web --follow",
    },
    (invocation: Invocation<LogFlags>) => log(cli, invocation),
  )
    .option("-n, --tail <n>", "newest entries to show", "100")
    .option("-f, --follow", "go on until Ctrl+C")
    .option("--json", "print one JSON object a line");
}

async function show(cli: Cli, answer: Promise<NetworkPolicy>, flags: PolicyFlags): Promise<void> {
  const policy = await answer;
  if (flags.json) return cli.printJson(policy);
  if (policy.rules.length === 0) return cli.note("No rules: the sprite's network is not restricted.");
  cli.print(renderTable(["ACTION", "DOMAIN"], policy.rules.map(rowOf), (cell, _column, row) => (row < 0 ? cli.style.bold(cell) : cell)));
}

const rowOf = (rule: NetworkRule): string[] => ("include" in rule ? ["allow", `(${rule.include})`] : [rule.action, rule.domain]);

async function set(cli: Cli, { name, policies, flags }: Invocation<SetFlags>): Promise<void> {
  const policy = await policyOf(cli, flags);
  await withProgress(cli, `Setting the network policy of ${name}`, policies.setNetwork(policy));
  const count = policy.rules?.length ?? 0;
  const what = count === 0 ? "its network is not restricted" : `${count} ${count === 1 ? "rule" : "rules"}`;
  cli.print(`${cli.style.green("Set")} the network policy of ${cli.style.bold(name)}: ${what}`);
}

/** @throws HobError `usage` when the flags say nothing or two things */
async function policyOf(cli: Cli, flags: SetFlags): Promise<NetworkPolicy> {
  const { allow = [], deny = [], defaults, denyAll, unrestricted, file } = flags;
  const ways = [allow.length + deny.length > 0 || defaults === true, denyAll === true, unrestricted === true, file !== undefined];
  if (ways.filter(Boolean).length !== 1) {
    throw new HobError("usage", "say in one way what the policy is", {
      hint: "--allow, --deny and --defaults together, or one of --deny-all, --unrestricted and --file",
    });
  }
  if (unrestricted === true) return { rules: [] };
  if (denyAll === true) return { rules: [{ domain: "*", action: "deny" }] };
  if (file !== undefined) return readPolicy(cli, file);
  const others: NetworkRule[] = allow.length === 0 && defaults !== true ? [{ domain: "*", action: "allow" }] : [];
  return {
    rules: [
      ...(defaults === true ? [{ include: "defaults" } as const] : []),
      ...allow.map((domain) => ({ domain, action: "allow" }) as const),
      ...deny.map((domain) => ({ domain, action: "deny" }) as const),
      ...others,
    ],
  };
}

/** The server checks what it holds. @throws HobError `usage` */
async function readPolicy(cli: Cli, file: string): Promise<NetworkPolicy> {
  let content: string;
  try {
    content = file === "-" ? await text(cli.stdin) : await readFile(file, "utf8");
  } catch (cause) {
    const { code = "failed" } = cause as NodeJS.ErrnoException;
    throw new HobError("usage", `read ${file}: ${code === "ENOENT" ? "no such file" : code}`, { cause });
  }
  try {
    return JSON.parse(content) as NetworkPolicy;
  } catch {
    throw new HobError("usage", `read ${file === "-" ? "standard input" : file}: it is not JSON`, {
      hint: 'it looks like {"rules":[{"domain":"github.com","action":"allow"}]}',
    });
  }
}

async function log(cli: Cli, { policies, flags }: Invocation<LogFlags>): Promise<void> {
  const options = { tail: parseNumber(flags.tail ?? "100", "--tail"), follow: flags.follow === true };
  for await (const entry of policies.networkLog(options)) cli.print(flags.json ? JSON.stringify(entry) : lineOf(cli, entry));
}

function lineOf(cli: Cli, entry: NetworkLogEntry): string {
  const { dim, green, red } = cli.style;
  const verdict = entry.action === "allow" ? green("allowed") : red("denied ");
  switch (entry.type) {
    case "lookup":
      return `${dim(entry.time)} ${verdict} ${entry.query ?? ""} ${printable(entry.name ?? "")} ${dim(entry.rule === undefined ? "no rule" : `rule ${entry.rule}`)}`;
    case "packet":
      return `${dim(entry.time)} ${red("blocked")} ${entry.protocol ?? ""} ${entry.address ?? ""}${entry.port === undefined ? "" : ` port ${entry.port}`}`;
    case "policy":
      return `${dim(entry.time)} ${entry.count === 0 ? "policy lifted" : `policy changed, rules: ${entry.count}`}`;
    default:
      return `${dim(entry.time)} and ${entry.count ?? "some"} more`;
  }
}

/** A name is whatever a program in the sprite asked for; control characters must not reach the terminal. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is to be removed
const printable = (name: string): string => name.replace(/[\x00-\x1f\x7f-\x9f]/g, "?");
