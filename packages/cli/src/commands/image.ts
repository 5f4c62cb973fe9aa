import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { progressLine } from "../output/build-progress.ts";
import { formatBytes, formatDuration } from "../output/format.ts";
import { renderTable } from "../output/table.ts";
import { type Register, withExample } from "../program.ts";

interface ImageFlags {
  force?: boolean;
  json?: boolean;
}

export const register: Register = (program, cli) => {
  const image = program.command("image").description("Build and list the images that sprites start from");
  const build = image
    .command("build")
    .description("Build what is missing; without --force, nothing is done twice")
    .option("--force", "build everything anew, with the newest packages")
    .option("--json", "print the files as JSON");
  withExample(build, "hob image build");
  build.action((flags: ImageFlags) => buildAll(cli, flags));
  const list = image.command("list").description("List the images in the cache").option("--json", "print JSON");
  withExample(list, "hob image list");
  list.action((flags: ImageFlags) => listAll(cli, flags));
  withExample(image as Command, "hob image build", "hob image list");
};

async function buildAll(cli: Cli, flags: ImageFlags): Promise<void> {
  const { buildImages } = await import("@hob/images");
  const start = performance.now();
  const set = await buildImages({
    force: flags.force === true,
    onProgress: (progress) => cli.note(progressLine(cli, progress, performance.now() - start)),
  });
  await freeUnused(cli);
  if (flags.json) return cli.printJson(set);
  cli.print(`Images ready in ${formatDuration(performance.now() - start)} (${set.hash.slice(0, 12)})`);
}

/** Whoever builds makes old versions older. A build that succeeded stays one, whatever comes of this. */
async function freeUnused(cli: Cli): Promise<void> {
  const { cacheKeepMs, loadConfig, pruneCache } = await import("@hob/hobd");
  const { defaultCacheDir } = await import("@hob/images");
  try {
    const { removed } = await pruneCache(defaultCacheDir(), { keepMs: cacheKeepMs(loadConfig(cli.env)) });
    const bytes = removed.reduce((sum, entry) => sum + entry.bytes, 0);
    if (removed.length > 0) cli.note(`Removed ${formatBytes(bytes)} from the cache that nobody needs.`);
  } catch (error) {
    cli.note(`The cache was not pruned: ${(error as Error).message}`);
  }
}

async function listAll(cli: Cli, flags: ImageFlags): Promise<void> {
  const [{ ImageCache, defaultCacheDir }, { join }] = await Promise.all([import("@hob/images"), import("node:path")]);
  const found = await new ImageCache(join(defaultCacheDir(), "images")).list();
  if (flags.json) return cli.printJson(found.map(({ directory, manifest }) => ({ directory, ...manifest })));
  if (found.length === 0) return cli.note("No images yet: 'hob image build' makes them.");
  const rows = found.map(({ manifest }) => {
    const bytes = Object.values(manifest.files).reduce((sum, file) => sum + file.bytes, 0);
    return [manifest.component, manifest.inputHash.slice(0, 12), formatBytes(bytes), manifest.builtAt];
  });
  cli.print(renderTable(["COMPONENT", "HASH", "SIZE", "BUILT"], rows, (cell, _column, row) => (row < 0 ? cli.style.bold(cell) : cell)));
}
