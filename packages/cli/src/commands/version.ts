import { HOB_VERSION } from "@hob/protocol/version.ts";
import { type Register, withExample } from "../program.ts";

export const register: Register = (program, cli) => {
  const command = program.command("version").description("Show the version of Hob and of its Node.js").option("--json", "print JSON");
  withExample(command, "hob version --json");
  command.action((flags: { json?: boolean }) => {
    const node = process.versions.node;
    if (flags.json) cli.printJson({ version: HOB_VERSION, node, platform: `${process.platform}-${process.arch}` });
    else cli.print(`hob ${HOB_VERSION} (node ${node}, ${process.platform}-${process.arch})`);
  });
};
