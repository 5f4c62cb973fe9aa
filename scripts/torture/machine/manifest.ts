/** By path below the folder: type, mode, owner, and what else makes it what it is. */
export type Manifest = ReadonlyMap<string, string>;

const SUMS = "-- sums";

/**
 * Prints what is in a folder: of each file mode, owner, links, size, time of change and SHA-256, of each symbolic link its
 * target. Names hold no newline, tab or backslash.
 */
export const manifestScript = (folder: string): string =>
  `cd ${folder}
find . -mindepth 1 \\( -type f -printf '%P\\tf %m %U:%G %n %s %T@\\n' \\) -o \\( -type l -printf '%P\\tl %U:%G %l\\n' \\) -o -printf '%P\\t%y %m %U:%G\\n'
echo '${SUMS}'
find . -type f -exec sha256sum {} +`;

/** @throws Error when it is not the whole output of the script */
export function parseManifest(output: string): Manifest {
  const lines = output.replace(/\n$/, "").split("\n");
  const border = lines.indexOf(SUMS);
  if (border === -1) throw new Error(`no manifest: ${output}`);
  const manifest = new Map(
    lines.slice(0, border).map((line) => {
      const [path = "", entry = ""] = line.split("\t");
      return [path, entry];
    }),
  );
  for (const line of lines.slice(border + 1)) {
    const [, sum, path = ""] = /^([0-9a-f]{64}) {2}\.\/(.*)$/.exec(line) ?? [];
    const entry = manifest.get(path);
    if (sum === undefined || entry === undefined) throw new Error(`no line of a manifest: ${line}`);
    manifest.set(path, `${entry} ${sum}`);
  }
  return manifest;
}

/**
 * What two manifests have not in common.
 * @param except names of the top folder that may be anything, with what is below
 */
export function differences(expected: Manifest, found: Manifest, except: ReadonlySet<string> = new Set()): string[] {
  const paths = [...new Set([...expected.keys(), ...found.keys()])].sort();
  return paths
    .filter((path) => expected.get(path) !== found.get(path) && !except.has(topOf(path)))
    .map((path) => `${path}: ${expected.get(path) ?? "nothing"} → ${found.get(path) ?? "nothing"}`);
}

export const topOf = (path: string): string => path.split("/")[0] ?? path;
