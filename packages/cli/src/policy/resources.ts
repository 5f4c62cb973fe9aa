import type { ResourcesPolicy } from "@hob/protocol/api/policies.ts";
import { HobError } from "@hob/protocol/errors.ts";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { withExample } from "../program.ts";
import { addSubcommand, type Invocation, type PolicyFlags, parseNumber } from "./subcommand.ts";

interface SetFlags extends PolicyFlags {
  memoryMb?: string;
  autoscale?: boolean;
  cpus?: string;
}

export function registerResources(policy: Command, cli: Cli): void {
  const resources = policy.command("resources").description("How much memory and processor time a sprite may use");
  withExample(resources, "hob policy resources set web --memory-mb 512 --cpus 1.5");
  addSubcommand(
    resources,
    cli,
    { word: "get", description: "Show the policy", example: "hob policy resources get web" },
    ({ policies, flags }: Invocation<PolicyFlags>) => show(cli, policies.resources(), flags),
  ).option("--json", "print JSON");
  addSubcommand(
    resources,
    cli,
    { word: "set", description: "Replace the limits; they are in force at once", example: "hob policy resources set web --memory-mb 512" },
    (invocation: Invocation<SetFlags>) => set(cli, invocation),
  )
    .option("--memory-mb <n>", "memory of all its processes together, MiB")
    .option("--autoscale", "let memory grow to what the machine has")
    .option("--cpus <n>", "processor time, in cores, such as 1.5");
  addSubcommand(
    resources,
    cli,
    { word: "reset", description: "Lift the limits", example: "hob policy resources reset web" },
    async ({ name, policies }: Invocation<PolicyFlags>) => {
      await policies.resetResources();
      cli.print(`${cli.style.green("Lifted")} the limits of ${cli.style.bold(name)}`);
    },
  );
}

async function show(cli: Cli, answer: Promise<ResourcesPolicy>, flags: PolicyFlags): Promise<void> {
  const policy = await answer;
  if (flags.json) return cli.printJson(policy);
  const { memory, cpu } = policy;
  if (memory === undefined && cpu === undefined) return cli.note("No limits: the sprite may use what its machine has.");
  const grows = memory?.autoscale === true ? ", and more when it needs it" : "";
  if (memory !== undefined)
    cli.print(`${cli.style.bold("memory")}  ${memory.limit_mb === undefined ? "no limit" : `${memory.limit_mb} MiB${grows}`}`);
  if (cpu !== undefined) cli.print(`${cli.style.bold("cpu")}     ${cpu.limit} cores`);
}

async function set(cli: Cli, { name, policies, flags }: Invocation<SetFlags>): Promise<void> {
  const { memoryMb, autoscale, cpus } = flags;
  const memory = {
    ...(memoryMb === undefined ? {} : { limit_mb: parseNumber(memoryMb, "--memory-mb") }),
    ...(autoscale === true ? { autoscale } : {}),
  };
  const policy: ResourcesPolicy = {
    ...(Object.keys(memory).length === 0 ? {} : { memory }),
    ...(cpus === undefined ? {} : { cpu: { limit: parseNumber(cpus, "--cpus") } }),
  };
  if (Object.keys(policy).length === 0)
    throw new HobError("usage", "say what the limits are", { hint: "'hob policy resources reset' lifts them" });
  await policies.setResources(policy);
  cli.print(`${cli.style.green("Set")} the limits of ${cli.style.bold(name)}`);
}
