import type { FsckReport } from "@hob/protocol/api/storage.ts";
import { HobError } from "@hob/protocol/errors.ts";
import type { Command } from "commander";
import { type Cli, EXIT } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { formatBytes, printable } from "../output/format.ts";
import { withProgress } from "../output/progress.ts";
import { type Register, withExample } from "../program.ts";

interface FsckFlags extends GlobalFlags {
  sprite?: string;
  repair?: boolean;
  json?: boolean;
}

/** Ranges of blocks that are named of one damage. */
const RANGES_SHOWN = 8;

export const register: Register = (program, cli) => {
  const command = program
    .command("fsck")
    .description("Read every state that the object store has, of one sprite or of all, and name what is damaged; status 1 if anything is")
    .argument("[name]", "name of the sprite (default: all)")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("--repair", "bring back chunks, map pages and checkpoint documents that one sprite has lost, as far as its machine has them")
    .option("--json", "print JSON");
  withExample(command, "hob fsck web", "hob fsck web --repair", "hob fsck --json");
  command.action((name: string | undefined, _flags: FsckFlags, self: Command) => fsck(cli, name, self.optsWithGlobals<FsckFlags>()));
};

async function fsck(cli: Cli, operand: string | undefined, flags: FsckFlags): Promise<void> {
  const name = flags.sprite ?? operand;
  if (flags.repair && name === undefined) throw new HobError("usage", "no sprite named to be repaired", { hint: "hob fsck NAME --repair" });
  const storage = await (await cli.client(flags)).storage();
  const what = name === undefined ? "Checking all sprites in the object store" : `Checking ${name} in the object store`;
  const report = await withProgress(cli, what, flags.repair && name !== undefined ? storage.repair(name) : storage.fsck(name));
  if (report.damage.length > 0) cli.exitStatus = EXIT.failure;
  if (flags.json) return cli.printJson(report);
  const names = report.damage.length > 0 ? await namesById(cli, flags) : new Map<string, string>();
  for (const line of describe(cli, report, names)) cli.print(line);
}

/** Reports have ids, which no other command takes. A daemon that cannot list says the rest even so. */
async function namesById(cli: Cli, flags: GlobalFlags): Promise<Map<string, string>> {
  const names = new Map<string, string>();
  try {
    for await (const { id, name } of (await cli.client(flags)).list()) names.set(id, name);
  } catch {}
  return names;
}

type Names = ReadonlyMap<string, string>;

function describe(cli: Cli, { damage, warnings, sprites, states, chunks, bytesRead }: FsckReport, names: Names): string[] {
  const { red, yellow, green } = cli.style;
  const counts = `${sprites} ${sprites === 1 ? "sprite" : "sprites"}, ${states} states, ${chunks} chunks, ${formatBytes(bytesRead)} read`;
  return [
    ...damage.map((one) => `${red("damaged")}  ${whereOf(one, names)}: ${printable(one.problem)}${blocksOf(one.blocks)}`),
    ...warnings.map(({ key, problem }) => `${yellow("warning")}  ${printable(problem.startsWith(key) ? problem : `${key}: ${problem}`)}`),
    damage.length === 0 ? `${green("Clean")}: ${counts}` : `${red(`${damage.length} damaged`)}: ${counts}`,
  ];
}

type Damage = FsckReport["damage"][number];

const whereOf = ({ sprite, checkpoint }: Damage, names: Names): string =>
  printable(`sprite ${names.get(sprite) ?? sprite}, ${checkpoint === null ? "its newest state" : `checkpoint ${checkpoint}`}`);

function blocksOf(blocks: Damage["blocks"]): string {
  if (blocks.length === 0) return "";
  const ranges = blocks.slice(0, RANGES_SHOWN).map(({ first, count }) => (count === 1 ? `${first}` : `${first}-${first + count - 1}`));
  return ` (blocks ${ranges.join(", ")}${blocks.length > RANGES_SHOWN ? ", …" : ""})`;
}
