import type { CommandRunner } from "@hob/linux";

/**
 * The Debian mirror that this machine's own apt is configured with, so that a build reaches the network exactly as
 * the machine's other installs do. On a machine of another distribution: the empty string, which leaves the choice
 * to mmdebstrap.
 */
export async function findDebianMirror(runner: CommandRunner): Promise<string> {
  const argv = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)"] as const;
  const { stdout } = await runner.run({ argv, timeoutMs: 20_000 }).catch(() => ({ stdout: "" }));
  return chooseDebianMirror(stdout.split("\n"));
}

/** Of lines `URI ORIGIN LABEL`: the URI of the main Debian archive, not of its security archive. */
export function chooseDebianMirror(lines: readonly string[]): string {
  for (const line of lines) {
    const [uri = "", origin, label] = line.trim().split(" ");
    if (origin === "Debian" && label === "Debian") return uri;
  }
  return "";
}

/** apt's proxy settings of this machine as `key "value"` options for another apt; mmdebstrap does not read them itself. */
export async function findAptProxyOptions(runner: CommandRunner): Promise<string[]> {
  const { stdout } = await runner.run({ argv: ["apt-config", "dump"], timeoutMs: 20_000 }).catch(() => ({ stdout: "" }));
  return stdout
    .split("\n")
    .filter((line) => /^Acquire::(https?|ftp)::Proxy\b/i.test(line))
    .map((line) => line.replace(/;\s*$/, ""));
}
