import type { TokenInfo } from "@hob/hobd";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { type GlobalFlags, resolveHome } from "../config.ts";
import { formatAge } from "../output/format.ts";
import { renderTable } from "../output/table.ts";
import { type Register, withExample } from "../program.ts";

interface TokenFlags extends GlobalFlags {
  json?: boolean;
}

export const register: Register = (program, cli) => {
  const token = program.command("token").description("Make, list and revoke the tokens that let clients in");
  withExample(token, "hob token create laptop");
  const create = token
    .command("create")
    .description("Make a token; its secret is shown this once")
    .argument("[description]", "what it is for", "made by hob token create")
    .option("--json", "print JSON");
  withExample(create, "hob token create laptop");
  create.action((description: string, _flags: TokenFlags, self: Command) =>
    createOne(cli, description, self.optsWithGlobals<TokenFlags>()),
  );
  const list = token.command("list").description("List tokens, without their secrets").option("--json", "print JSON");
  withExample(list, "hob token list");
  list.action((_flags: TokenFlags, self: Command) => listAll(cli, self.optsWithGlobals<TokenFlags>()));
  const revoke = token.command("revoke").description("Make a token useless, at once").argument("<id>", "its id, from the list");
  withExample(revoke, "hob token revoke a1b2c3");
  revoke.action((id: string, _flags: TokenFlags, self: Command) => revokeOne(cli, id, self.optsWithGlobals<TokenFlags>()));
};

async function createOne(cli: Cli, description: string, flags: TokenFlags): Promise<void> {
  const { createHomeToken } = await import("@hob/hobd");
  const created = await createHomeToken(resolveHome(flags, cli.env), description);
  if (flags.json) return cli.printJson({ ...toJson(created), token: created.token });
  cli.note(`Token ${created.id} (${created.description}); it is not shown again:`);
  cli.print(created.token);
}

async function listAll(cli: Cli, flags: TokenFlags): Promise<void> {
  const { listHomeTokens } = await import("@hob/hobd");
  const tokens = await listHomeTokens(resolveHome(flags, cli.env));
  if (flags.json) return cli.printJson(tokens.map(toJson));
  if (tokens.length === 0) return cli.note("No tokens yet: 'hob token create' makes one.");
  const now = Date.now();
  const rows = tokens.map((token) => [token.id, stateOf(token), formatAge(token.createdAt, now), usedOf(token, now), token.description]);
  cli.print(
    renderTable(["ID", "STATE", "AGE", "USED", "DESCRIPTION"], rows, (cell, _column, row) => (row < 0 ? cli.style.bold(cell) : cell)),
  );
}

async function revokeOne(cli: Cli, id: string, flags: TokenFlags): Promise<void> {
  const { revokeHomeToken } = await import("@hob/hobd");
  await revokeHomeToken(resolveHome(flags, cli.env), id);
  cli.print(`Revoked ${id}`);
}

const stateOf = (token: TokenInfo): string => (token.revokedAt === null ? "valid" : "revoked");

const usedOf = (token: TokenInfo, nowMs: number): string =>
  token.lastUsedAt === null ? "never" : `${formatAge(token.lastUsedAt, nowMs)} ago`;

/** The API's habits: snake_case, RFC 3339. */
function toJson({ id, description, createdAt, lastUsedAt, revokedAt }: TokenInfo): Record<string, string | null> {
  const time = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());
  return { id, description, created_at: time(createdAt), last_used_at: time(lastUsedAt), revoked_at: time(revokedAt) };
}
