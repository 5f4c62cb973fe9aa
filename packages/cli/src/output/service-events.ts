import type { ServiceEvents } from "@hob/client";
import type { ServiceEvent } from "@hob/protocol/api/services.ts";
import type { Cli } from "../cli.ts";
import { EXIT } from "../cli.ts";

export interface EventStyle {
  /** the events themselves, one JSON object per line */
  json?: boolean | undefined;
  /** when each line was written */
  timestamps?: boolean | undefined;
}

/**
 * Shows events as they come: what the service writes on the same streams here, what happens to it on standard error.
 * @returns the exit status: failure if something went wrong, or the service ended by itself
 */
export async function showEvents(cli: Cli, service: string, events: ServiceEvents, style: EventStyle = {}): Promise<number> {
  let status: number = EXIT.ok;
  for await (const event of events) {
    if (event.type === "error" || event.type === "exit") status = EXIT.failure;
    if (style.json) await write(cli.stdout, `${JSON.stringify(event)}\n`);
    else await show(cli, service, event, style.timestamps === true);
  }
  return status;
}

async function show(cli: Cli, service: string, event: ServiceEvent, timestamps: boolean): Promise<void> {
  const { bold, dim, red } = cli.noteStyle;
  if (event.type === "stdout" || event.type === "stderr") {
    const stream = event.type === "stdout" ? cli.stdout : cli.stderr;
    return write(stream, timestamps ? `${dim(new Date(event.timestamp).toISOString())} ${event.data}` : event.data);
  }
  if (event.type === "started") cli.note(`Started ${bold(service)}`);
  else if (event.type === "stopping") cli.note(`Stopping ${bold(service)} ...`);
  else if (event.type === "stopped") cli.note(`Stopped ${bold(service)}`);
  else if (event.type === "exit") cli.note(`${bold(service)} ended with exit status ${event.exit_code}`);
  else if (event.type === "error") cli.note(`${red("hob:")} ${event.data}`);
}

/** Waits while the reader of our output is slower than the service. */
async function write(stream: NodeJS.WritableStream, text: string): Promise<void> {
  if (stream.write(text)) return;
  await new Promise<void>((resolve) => {
    const go = () => {
      stream.off("drain", go).off("error", go).off("close", go);
      resolve();
    };
    stream.on("drain", go).on("error", go).on("close", go);
  });
}
