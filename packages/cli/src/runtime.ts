import type { RuntimeContext, SpriteRuntime } from "@hob/hobd";
import type { Cli } from "./cli.ts";
import { formatDuration } from "./output/format.ts";

/** The runtime of real VMs: builds the images where they are missing, and says on standard error what takes long. */
export async function createRuntime(cli: Cli, context: RuntimeContext): Promise<SpriteRuntime> {
  const [{ buildImages }, hobd, { progressLine }] = await Promise.all([
    import("@hob/images"),
    import("@hob/hobd"),
    import("./output/build-progress.ts"),
  ]);
  const start = performance.now();
  const images = await buildImages({
    onProgress: (progress) => {
      if (progress.state !== "cached") cli.note(progressLine(cli, progress, performance.now() - start));
    },
  });
  return hobd.createRuntime({
    home: context.home.directory,
    images,
    cacheKeepMs: context.cacheKeepMs,
    log: context.log,
    storage: context.storage,
    prepare: true,
    events: {
      building: ({ cpus, ramMb }) => cli.note(`Booting a template (${cpus} CPUs, ${ramMb} MB): sprites are forked from it`),
      built: (_machine, elapsedMs) => cli.note(`Template ready in ${formatDuration(elapsedMs)}`),
    },
  });
}
