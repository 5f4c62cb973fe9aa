import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Sprite } from "@fly/sprites";
import { DEFAULT_RECIPE } from "@hob/images";
import { findDebianMirror } from "@hob/images/mirror.ts";
import { SystemCommandRunner } from "@hob/linux";
import { PROJECT } from "../lib/steps.ts";
import type { BenchContext } from "./part.ts";
import { pipeIn } from "./subjects/pipe-in.ts";

const run = promisify(execFile);
const FETCH_TIMEOUT_MS = 180_000;

/**
 * What people do in a sprite, as a change of its volume. What comes from the network is fetched by this machine and put into
 * the sprite beforehand: the figures are those of the volume, not of a registry.
 */
export interface Workload {
  name: string;
  /** brings what `run` needs into the sprite; not measured. @throws when it cannot be had here */
  prepare(context: BenchContext, sprite: Sprite): Promise<void>;
  run(sprite: Sprite): Promise<void>;
}

const shell = async (sprite: Sprite, script: string): Promise<string> => String((await sprite.execFile("sh", ["-ec", script])).stdout);

/** Puts a folder of this machine into the sprite. */
async function copyIn(sprite: Sprite, directory: string, to: string): Promise<void> {
  const tar = spawn("tar", ["-C", directory, "-c", "."], { stdio: ["ignore", "pipe", "inherit"] });
  const [[code]] = await Promise.all([once(tar, "exit"), pipeIn(sprite, `mkdir -p ${to} && tar -C ${to} -x`, tar.stdout)]);
  if (code !== 0) throw new Error(`tar of ${directory} ended with ${code}`);
}

async function temporary(context: BenchContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "hob-workload-"));
  context.defer(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

const NPM_PACKAGES = ["express@4.21.2", "lodash@4.17.21"];
const NPM_PACKAGES_MORE = ["typescript@5.8.3", "rxjs@7.8.2"];
const NPM_FLAGS = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"];

const npmInstall = (quick: boolean): Workload => {
  const packages = quick ? NPM_PACKAGES : [...NPM_PACKAGES, ...NPM_PACKAGES_MORE];
  let registry = "";
  return {
    name: "npm install",
    async prepare(context, sprite) {
      const directory = await temporary(context);
      const npm = join(PROJECT, "node_modules/npm/bin/npm-cli.js");
      const here = { cwd: directory, timeout: FETCH_TIMEOUT_MS };
      registry = (await run(process.execPath, [npm, "config", "get", "registry"], here)).stdout.trim();
      const argv = [npm, "install", "--prefix", join(directory, "app"), "--cache", join(directory, "cache"), ...NPM_FLAGS, ...packages];
      await mkdir(join(directory, "app"));
      await run(process.execPath, argv, here);
      await copyIn(sprite, join(directory, "cache"), "/home/sprite/npm-cache");
    },
    async run(sprite) {
      const flags = ["--offline", "--cache ~/npm-cache", `--registry '${registry}'`, ...NPM_FLAGS].join(" ");
      await shell(sprite, `mkdir -p ~/app && cd ~/app && npm init -y >/dev/null && npm install ${flags} ${packages.join(" ")}`);
    },
  };
};

const DEBIAN_PACKAGES = ["ruby"];
const DEBIAN_PACKAGES_MORE = ["php-cli", "golang-go"];

const aptInstall = (quick: boolean): Workload => {
  const packages = quick ? DEBIAN_PACKAGES : [...DEBIAN_PACKAGES, ...DEBIAN_PACKAGES_MORE];
  return {
    name: "apt-get install",
    async prepare(context, sprite) {
      const root = await temporary(context);
      await writeFile(join(root, "status"), await shell(sprite, "cat /var/lib/dpkg/status"));
      await downloadDebs(root, packages);
      await copyIn(sprite, join(root, "archives"), "/home/sprite/debs");
    },
    async run(sprite) {
      await shell(sprite, "sudo env DEBIAN_FRONTEND=noninteractive apt-get -y --no-install-recommends install ~/debs/*.deb");
    },
  };
};

/** Exactly the packages that the sprite lacks, from the archive of its own suite, by an apt with folders of its own. */
async function downloadDebs(root: string, packages: readonly string[]): Promise<void> {
  const mirror = await findDebianMirror(new SystemCommandRunner());
  if (mirror === "") throw new Error("prepare Debian packages: this machine's apt has no mirror of the Debian archive");
  const signed = "/usr/share/keyrings/debian-archive-keyring.gpg";
  for (const folder of ["lists/partial", "archives/partial", "parts"]) await mkdir(join(root, folder), { recursive: true });
  await writeFile(join(root, "sources.list"), `deb [signed-by=${signed}] ${mirror} ${DEFAULT_RECIPE.suite} main\n`);
  const options = [
    `Dir::State::status=${root}/status`,
    `Dir::State::lists=${root}/lists`,
    `Dir::Cache::archives=${root}/archives`,
    `Dir::Cache::pkgcache=`,
    `Dir::Cache::srcpkgcache=`,
    `Dir::Etc::sourcelist=${root}/sources.list`,
    `Dir::Etc::sourceparts=${root}/parts`,
    "APT::Sandbox::User=root",
    "Debug::NoLocking=true",
  ].flatMap((option) => ["-o", option]);
  await run("apt-get", [...options, "update"], { timeout: FETCH_TIMEOUT_MS });
  const install = ["-y", "--no-install-recommends", "--download-only", "install", ...packages];
  await run("apt-get", [...options, ...install], { timeout: FETCH_TIMEOUT_MS, maxBuffer: 16 * 1024 * 1024 });
  await rm(join(root, "archives/partial"), { recursive: true });
  if ((await readdir(join(root, "archives"))).every((name) => !name.endsWith(".deb"))) throw new Error("apt downloaded no package");
}

const SQLITE_MAKE = (rows: number): string => `
import os, sqlite3
db = sqlite3.connect("/home/sprite/data.db")
db.execute("pragma journal_mode=wal")
db.execute("create table item (id integer primary key, value blob, count integer)")
db.executemany("insert into item values (?, ?, 0)", ((i, os.urandom(400)) for i in range(${rows})))
db.execute("create index by_count on item (count)")
db.commit()
db.close()
`;

/** Short transactions as a web application has them: five rows are changed, one is added. */
const SQLITE_CHANGE = (rows: number, transactions: number): string => `
import os, random, sqlite3
random.seed(7)
db = sqlite3.connect("/home/sprite/data.db", isolation_level=None)
db.execute("pragma synchronous=normal")
for i in range(${transactions}):
    db.execute("begin immediate")
    for _ in range(5):
        db.execute("update item set value = ?, count = count + 1 where id = ?", (os.urandom(400), random.randrange(${rows})))
    db.execute("insert into item values (?, ?, 0)", (${rows} + i, os.urandom(400)))
    db.execute("commit")
assert db.execute("pragma integrity_check").fetchone() == ("ok",)
db.close()
`;

const sqlite = (quick: boolean): Workload => {
  const [rows, transactions] = quick ? [40_000, 1_000] : [200_000, 10_000];
  return {
    name: "SQLite",
    async prepare(_context, sprite) {
      await sprite.execFile("python3", ["-c", SQLITE_MAKE(rows)]);
    },
    async run(sprite) {
      await sprite.execFile("python3", ["-c", SQLITE_CHANGE(rows, transactions)]);
    },
  };
};

export const workloads = (quick: boolean): Workload[] => [npmInstall(quick), aptInstall(quick), sqlite(quick)];
