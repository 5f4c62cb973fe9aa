import type { ServiceRequest } from "@hob/client";
import { HobError } from "@hob/protocol/errors.ts";
import { type Cli, EXIT } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { showEvents } from "../output/service-events.ts";
import { takeServiceName } from "../sprite-argument.ts";

export interface CreateFlags extends GlobalFlags {
  sprite?: string;
  json?: boolean;
  cmd?: string;
  args?: string[];
  env?: Record<string, string>;
  dir?: string;
  needs?: string[];
  httpPort?: number;
  duration?: string;
  /** false with --no-stream */
  stream: boolean;
}

const USAGE = "hob services create NAME SERVICE -- PROGRAM [ARGUMENTS]";

export async function createService(cli: Cli, operands: readonly (string | undefined)[], flags: CreateFlags): Promise<void> {
  const { name, service, rest } = takeServiceName(operands, flags.sprite, USAGE, 0);
  const request = toRequest(flags, rest);
  const services = await (await cli.client(flags)).services(name);
  const events = services.put(service, request, flags.stream ? flags.duration : "0s");
  const status = await showEvents(cli, service, events, flags);
  if (status !== EXIT.ok) cli.exitStatus = status;
}

/** @throws HobError `usage` */
function toRequest(flags: CreateFlags, words: readonly string[]): ServiceRequest {
  const [program, ...rest] = words;
  if ((program === undefined) === (flags.cmd === undefined)) {
    throw new HobError("usage", "services create: give the program after --, or by --cmd", { hint: USAGE });
  }
  if (program !== undefined && flags.args !== undefined) {
    throw new HobError("usage", "services create: --args does not go with a program after --", { hint: USAGE });
  }
  return {
    cmd: program ?? flags.cmd ?? "",
    args: program === undefined ? parts(flags.args) : rest,
    ...(flags.env === undefined ? {} : { env: flags.env }),
    ...(flags.dir === undefined ? {} : { dir: flags.dir }),
    needs: parts(flags.needs),
    ...(flags.httpPort === undefined ? {} : { http_port: flags.httpPort }),
  };
}

const parts = (lists: readonly string[] = []): string[] => lists.flatMap((list) => (list === "" ? [] : list.split(",")));
