/** By path below the folder: type, mode, owner, time of change, and what else makes it what it is. */
export type Manifest = ReadonlyMap<string, string>;

const SUMS = "-- sums";

/**
 * Prints what is in a folder: of everything owner and time of change, of files mode, inode, links, size and SHA-256, of folders
 * mode, of symbolic links the target. Names hold no newline, tab or backslash.
 */
export const manifestScript = (folder: string): string =>
  `cd ${folder}
find . -mindepth 1 \\( -type f -printf '%P\\tf %m %U:%G %T@ %s %n\\t%i\\n' \\) -o \\( -type l -printf '%P\\tl %U:%G %T@ %l\\n' \\) -o -printf '%P\\t%y %m %U:%G %T@\\n'
echo '${SUMS}'
find . -type f -exec sha256sum {} +`;

/** @throws Error when it is not the whole output of the script */
export function parseManifest(output: string): Manifest {
  const lines = output.replace(/\n$/, "").split("\n");
  const border = lines.indexOf(SUMS);
  if (border === -1) throw new Error(`no manifest: ${output}`);
  const manifest = new Map<string, string>();
  /** Inodes of a copy have other numbers: a hard link is told by the first name of its file. */
  const firstNames = new Map<string, string>();
  for (const [path = "", entry = "", inode] of lines
    .slice(0, border)
    .sort()
    .map((line) => line.split("\t"))) {
    const first = inode === undefined ? path : (firstNames.get(inode) ?? path);
    if (inode !== undefined) firstNames.set(inode, first);
    manifest.set(path, first === path ? entry : `${entry} as ${first}`);
  }
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
