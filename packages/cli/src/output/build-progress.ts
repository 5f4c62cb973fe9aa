import type { BuildProgress } from "@hob/images";
import type { Cli } from "../cli.ts";
import { formatDuration } from "./format.ts";

/** One line per event, each with the time since the start: a build takes minutes, and one wants to see that it moves. */
export function progressLine(cli: Cli, progress: BuildProgress, sinceStartMs: number): string {
  const { dim, green } = cli.noteStyle;
  const clock = dim(`[${formatDuration(sinceStartMs).padStart(10)}]`);
  switch (progress.state) {
    case "cached":
      return `${clock} ${green("cached")}  ${progress.title}`;
    case "building":
      return `${clock} building ${progress.title}`;
    case "step":
      return `${clock}   ${dim(progress.text ?? "")}`;
    case "built":
      return `${clock} ${green("built")}   ${progress.title} in ${formatDuration(progress.elapsedMs ?? 0)}`;
  }
}
