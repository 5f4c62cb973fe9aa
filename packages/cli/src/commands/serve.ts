import { join } from "node:path";
import { MACHINE_LIMITS } from "@hob/protocol/limits.ts";
import type { Command } from "commander";
import { integerBetween, parseListen } from "../arguments.ts";
import { type Cli, EXIT } from "../cli.ts";
import { type GlobalFlags, resolveHome } from "../config.ts";
import { DEFAULT_LISTEN } from "../defaults.ts";
import { type Register, withExample } from "../program.ts";

interface ServeFlags extends GlobalFlags {
  listen: { host: string; port: number };
  domain?: string;
  maxRunning?: number;
  json?: boolean;
}

export const register: Register = () => {};
