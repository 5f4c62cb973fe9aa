import { readFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { pipeline } from "node:stream/promises";
import { parseArgs } from "node:util";
import { HobError } from "@hob/protocol/errors.ts";
import type { Command } from "commander";
import { collectText } from "../arguments.ts";
import { type Cli, EXIT } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

/** Options as curl(1) has them. */
interface RequestFlags {
  request?: string | undefined;
  data?: string[] | undefined;
  header?: string[] | undefined;
  include?: boolean | undefined;
}

interface ApiFlags extends GlobalFlags, RequestFlags {
  sprite?: string;
}

const USAGE = "hob api PATH [-X METHOD] [-d DATA] [-H 'NAME: VALUE']";
/** A token of RFC 9110 section 5.6.2, which methods and names of headers are. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

export const register: Register = (program, cli) => {
  const command = program
    .command("api")
    .description("Send a request to the API and print the answer as it comes")
    .usage("[options] PATH [-- CURL-LIKE OPTIONS]")
    .argument("<path>", "/v1/… is taken as it is; anything else is below the sprite, such as fs/list?path=/")
    .argument("[options...]", "the options below, as one would give them to curl")
    .option("-s, --sprite <name>", "name of the sprite that the path is below")
    .option("-X, --request <method>", "method (default: GET, with data POST)")
    .option("-d, --data <data>", "body; @FILE is read, @- is standard input; may be repeated", collectText)
    .option("-H, --header <header>", "header 'Name: value'; may be repeated", collectText)
    .option("-i, --include", "print status and headers of the answer first");
  withExample(
    command,
    "hob api /v1/sprites",
    "hob api -s web fs/list?path=/home/sprite",
    `hob api -s web sleep -- -X POST -d '{"force":true}'`,
  );
  command.action((path: string, words: string[], _flags: ApiFlags, self: Command) =>
    api(cli, path, words, self.optsWithGlobals<ApiFlags>()),
  );
};

async function api(cli: Cli, path: string, words: readonly string[], flags: ApiFlags): Promise<void> {
  const given = merge(flags, parseWords(words));
  const target = targetOf(path, flags.sprite);
  const headers = parseHeaders(given.header ?? []);
  const body = await readBody(cli, given.data ?? []);
  const method = (given.request ?? (body === undefined ? "GET" : "POST")).toUpperCase();
  if (!TOKEN.test(method)) throw new HobError("usage", `'${method}' is no method`, { hint: USAGE });
  const client = await cli.client(flags);
  const { openStream } = await import("@hob/client/stream.ts");
  const type = body !== undefined && headers["content-type"] === undefined ? { "content-type": "application/json" } : {};
  const answer = await openStream(client.endpoint, method, target, { headers: { accept: "*/*", ...type, ...headers }, body });
  if (given.include) printHead(cli, answer);
  await pipeline(answer, cli.stdout, { end: false });
  if ((answer.statusCode ?? 0) < 400) return;
  // What was wrong is in the body; a program reads it from the exit status.
  cli.note(`\nhob: the server answered with status ${answer.statusCode}`);
  cli.exitStatus = EXIT.failure;
}

function targetOf(path: string, sprite: string | undefined): string {
  if (/[\s\\]/.test(path)) throw new HobError("usage", `'${path}' is no path`, { hint: "percent-encode what is special in it" });
  if (/^\/(v1\/|v1$|healthz|openapi\.json|docs)/.test(path)) return path;
  const { name } = takeSpriteName([], sprite, "hob api -s NAME PATH");
  return `/v1/sprites/${encodeURIComponent(name)}/${path.replace(/^\/+/, "")}`;
}

/** @throws HobError `usage` */
function parseWords(words: readonly string[]): RequestFlags {
  try {
    const { values } = parseArgs({
      args: [...words],
      strict: true,
      allowPositionals: false,
      options: {
        request: { type: "string", short: "X" },
        data: { type: "string", short: "d", multiple: true },
        header: { type: "string", short: "H", multiple: true },
        include: { type: "boolean", short: "i" },
      },
    });
    return values;
  } catch (thrown) {
    throw new HobError("usage", (thrown as Error).message.split(". ")[0] ?? "", { hint: USAGE, cause: thrown });
  }
}

const merge = (first: RequestFlags, second: RequestFlags): RequestFlags => ({
  request: second.request ?? first.request,
  data: [...(first.data ?? []), ...(second.data ?? [])],
  header: [...(first.header ?? []), ...(second.header ?? [])],
  include: second.include ?? first.include,
});

function parseHeaders(lines: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const [, name = "", value = ""] = /^([^:]+):\s*(.*?)\s*$/.exec(line) ?? [];
    if (!TOKEN.test(name)) throw new HobError("usage", `'${line}' is no header`, { hint: "it looks like 'Name: value'" });
    headers[name.toLowerCase()] = value;
  }
  return headers;
}

/** Several are joined by `&`, as curl does. */
async function readBody(cli: Cli, data: readonly string[]): Promise<Buffer | undefined> {
  if (data.length === 0) return undefined;
  const parts = await Promise.all(data.map((each) => readPart(cli, each)));
  return parts.reduce((all, part) => Buffer.concat([all, Buffer.from("&"), part]));
}

async function readPart(cli: Cli, data: string): Promise<Buffer> {
  if (data === "@-") return Buffer.concat(await cli.stdin.toArray());
  if (!data.startsWith("@")) return Buffer.from(data);
  return readFile(data.slice(1)).catch((cause: NodeJS.ErrnoException) => {
    throw new HobError("usage", `read ${data.slice(1)}: ${cause.code === "ENOENT" ? "no such file" : cause.code}`, { cause });
  });
}

function printHead(cli: Cli, answer: IncomingMessage): void {
  cli.print(`HTTP/${answer.httpVersion} ${answer.statusCode} ${answer.statusMessage}`);
  for (let i = 0; i + 1 < answer.rawHeaders.length; i += 2) cli.print(`${answer.rawHeaders[i]}: ${answer.rawHeaders[i + 1]}`);
  cli.print("");
}
