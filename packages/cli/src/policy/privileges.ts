import type { PrivilegesPolicy } from "@hob/protocol/api/policies.ts";
import { HobError } from "@hob/protocol/errors.ts";
import { type Command, Option } from "commander";
import type { Cli } from "../cli.ts";
import { withExample } from "../program.ts";
import { addSubcommand, type Invocation, type PolicyFlags, repeated } from "./subcommand.ts";

const PROFILES = ["minimal", "standard", "privileged"] as const;

interface SetFlags extends PolicyFlags {
  profile?: (typeof PROFILES)[number];
  device?: string[];
  /** commander's way to say --no-new-privileges */
  newPrivileges?: boolean;
  devices?: boolean;
}

export function registerPrivileges(policy: Command, cli: Cli): void {
  const privileges = policy.command("privileges").description("What programs in a sprite may become");
  withExample(privileges, "hob policy privileges set web --profile minimal");
  addSubcommand(
    privileges,
    cli,
    { word: "get", description: "Show the policy", example: "hob policy privileges get web" },
    ({ policies, flags }: Invocation<PolicyFlags>) => show(cli, policies.privileges(), flags),
  ).option("--json", "print JSON");
  addSubcommand(
    privileges,
    cli,
    {
      word: "set",
      description: "Replace the policy; at once for new commands, wholly after the next bounce",
      example: "hob policy privileges set web --profile standard --no-new-privileges && hob bounce web",
    },
    (invocation: Invocation<SetFlags>) => set(cli, invocation),
  )
    .addOption(new Option("--profile <profile>", "what root in the sprite may do").choices([...PROFILES]))
    .option("--device <path>", "leave this device, and none that is not named; repeatable", repeated)
    .option("--no-devices", "leave no device")
    .option("--no-new-privileges", "sudo and the like give nothing");
  addSubcommand(
    privileges,
    cli,
    { word: "reset", description: "Lift the policy", example: "hob policy privileges reset web" },
    async ({ name, policies }: Invocation<PolicyFlags>) => {
      await policies.resetPrivileges();
      cli.print(`${cli.style.green("Lifted")} the privileges policy of ${cli.style.bold(name)}`);
    },
  );
}

async function show(cli: Cli, answer: Promise<PrivilegesPolicy>, flags: PolicyFlags): Promise<void> {
  const policy = await answer;
  if (flags.json) return cli.printJson(policy);
  if (Object.keys(policy).length === 0) return cli.note("No policy: root in the sprite is root as on a machine of one's own.");
  const { profile, devices, noNewPrivileges } = policy;
  cli.print(`${cli.style.bold("profile")}            ${profile || "privileged"}`);
  if (devices !== undefined) cli.print(`${cli.style.bold("devices")}            ${devices.length === 0 ? "none" : devices.join(", ")}`);
  if (noNewPrivileges !== undefined) cli.print(`${cli.style.bold("no new privileges")}  ${noNewPrivileges ? "yes" : "no"}`);
}

async function set(cli: Cli, { name, policies, flags }: Invocation<SetFlags>): Promise<void> {
  const { profile, device, devices, newPrivileges } = flags;
  if (device !== undefined && devices === false) throw new HobError("usage", "--device and --no-devices exclude each other");
  const policy = {
    ...(profile === undefined ? {} : { profile }),
    ...(device === undefined ? {} : { devices: device }),
    ...(devices === false ? { devices: [] } : {}),
    ...(newPrivileges === false ? { noNewPrivileges: true } : {}),
  } as PrivilegesPolicy;
  if (Object.keys(policy).length === 0)
    throw new HobError("usage", "say what the policy is", { hint: "'hob policy privileges reset' lifts it" });
  await policies.setPrivileges(policy);
  cli.print(`${cli.style.green("Set")} the privileges policy of ${cli.style.bold(name)}`);
  cli.note("New commands have it at once; what runs, devices and the filter of system calls follow with 'hob bounce'.");
}
