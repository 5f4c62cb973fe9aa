import { registerNetwork } from "../policy/network.ts";
import { registerPrivileges } from "../policy/privileges.ts";
import { registerResources } from "../policy/resources.ts";
import { type Register, withExample } from "../program.ts";

export const register: Register = (program, cli) => {
  const policy = program.command("policy").description("Say what a sprite may reach, become and use");
  withExample(
    policy,
    "hob policy network set web --allow github.com --defaults",
    "hob policy resources set web --memory-mb 512 --cpus 1.5",
  );
  registerNetwork(policy, cli);
  registerPrivileges(policy, cli);
  registerResources(policy, cli);
};
