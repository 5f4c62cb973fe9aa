import type { Random } from "../../../packages/storage/test/support/random.ts";

const NAMES = ["a", "b", "c c", "ü", "e.txt", "-f", "g", "h", "i", "j"] as const;
const FILE_BYTES_MAX = 300_000;
const SPARSE_BYTES_MAX = 6_000_000;

export interface Changes {
  /** lines of sh, each of which changes something or, where that cannot be, nothing; one that should and does not fails */
  lines: string[];
  /** names of the top folder that may be changed */
  touched: Set<string>;
}

interface Change {
  /** sh: whether it can be done; default: always */
  when?: (name: string) => string;
  /** sh. Only `other` is changed beside `name`, and only if it is asked for. */
  line: (random: Random, name: string, other: string) => string;
}

const isFile = (name: string): string => `[ -f ${name} ] && [ ! -L ${name} ]`;
const isWritable = (name: string): string => `${isFile(name)} && [ -w ${name} ]`;
const isThere = (name: string): string => `{ [ -e ${name} ] || [ -L ${name} ]; }`;
const size = (random: Random): number => random.below(random.chance(0.3) ? FILE_BYTES_MAX : 5_000);
const newFile = (random: Random, name: string): string => `rm -rf ${name}; head -c ${size(random)} /dev/urandom > ${name}`;

/** Names are quoted, and begin with `./`. */
const CHANGES: readonly Change[] = [
  { line: newFile },
  { line: newFile },
  { when: isWritable, line: (random, name) => `head -c ${size(random)} /dev/urandom >> ${name}` },
  {
    when: isWritable,
    line: (random, name) =>
      `dd if=/dev/urandom of=${name} bs=1000 count=${1 + random.below(9)} seek=${random.below(300)} conv=notrunc status=none`,
  },
  {
    line: (random, name) => {
      const bytes = 1 + random.below(SPARSE_BYTES_MAX);
      const at = random.below(Math.ceil(bytes / 4_096));
      return `rm -rf ${name}; truncate -s ${bytes} ${name}; dd if=/dev/urandom of=${name} bs=4096 count=2 seek=${at} conv=notrunc status=none`;
    },
  },
  { when: isWritable, line: (random, name) => `truncate -s ${random.below(FILE_BYTES_MAX)} ${name}` },
  {
    when: isWritable,
    line: (random, name) => `fallocate --punch-hole -o ${random.below(50_000)} -l ${1 + random.below(100_000)} ${name}`,
  },
  { line: (random, name) => `rm -rf ${name}; ln -s 'to ${random.below(1_000_000)}' ${name}` },
  {
    line: (random, name) =>
      `rm -rf ${name}; mkdir -p ${name}/d/e; head -c ${size(random)} /dev/urandom > ${name}/d/x; ln ${name}/d/x ${name}/y; ln -s d/x ${name}/z; chmod 700 ${name}/d`,
  },
  {
    when: (name) => `[ -d ${name} ] && [ ! -L ${name} ]`,
    line: (random, name) => `head -c ${size(random)} /dev/urandom > ${name}/more`,
  },
  { when: isThere, line: (_, name, other) => `rm -rf ${other}; mv -T ${name} ${other}` },
  { when: isThere, line: (_, name, other) => `rm -rf ${other}; cp -a ${name} ${other}` },
  {
    when: (name) => `[ -O ${name} ] && [ ! -L ${name} ]`,
    line: (random, name) => `chmod ${random.pick(["700", "711", "755", "1777", "2755", "4711"])} ${name}`,
  },
  { when: isFile, line: (_, name) => `sudo chown 0:0 ${name} && sudo chmod 644 ${name}` },
  { line: (_, name) => `rm -rf ${name}` },
];

export function changesOf(random: Random, count: number): Changes {
  const touched = new Set<string>();
  const lines = Array.from({ length: count }, () => {
    const [name, other] = twoOf(random);
    const { when, line } = random.pick(CHANGES);
    touched.add(name);
    if (line.length > 2) touched.add(other);
    const change = line(random, quoted(name), quoted(other));
    return when === undefined ? change : `if ${when(quoted(name))}; then ${change}; fi`;
  });
  return { lines, touched };
}

/** A name for a file that is written through the API, and the line that makes room for it. */
export function placeOf(random: Random): { name: string; line: string } {
  const name = random.pick(NAMES);
  return { name, line: `rm -rf ${quoted(name)}` };
}

function twoOf(random: Random): [string, string] {
  const name = random.pick(NAMES);
  return [name, random.pick(NAMES.filter((other) => other !== name))];
}

const quoted = (name: string): string => `'./${name}'`;
