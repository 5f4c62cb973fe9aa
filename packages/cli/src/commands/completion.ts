import { Argument } from "commander";
import { COMPLETION_SCRIPTS, SHELLS, type Shell } from "../completion/scripts.ts";
import { type Register, withExample } from "../program.ts";

export const register: Register = (program, cli) => {
  const command = program
    .command("completion")
    .description("Print a completion script for a shell")
    .addArgument(new Argument("<shell>", "shell").choices([...SHELLS]));
  withExample(command, "source <(hob completion bash)");
  command.action((shell: Shell) => {
    cli.stdout.write(COMPLETION_SCRIPTS[shell]);
  });
};
