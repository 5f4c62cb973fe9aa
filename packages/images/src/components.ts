import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Command, CommandRunner } from "@hob/linux";
import { HOB_VERSION, HobError } from "@hob/protocol";
import { InputHash } from "./content-hash.ts";
import { buildInitramfs, type InitramfsEntry } from "./initramfs.ts";
import { extractVmlinux } from "./kernel.ts";
import { findAptProxyOptions, findDebianMirror } from "./mirror.ts";
import type { ImageRecipe } from "./recipe.ts";

const PROJECT = fileURLToPath(new URL("../../../", import.meta.url));
const PACKAGE = join(PROJECT, "packages/images");
const HOOKS = join(PACKAGE, "hooks");
const require = createRequire(import.meta.url);

/** Times in the images never lie later than this (2026-01-01), so that equal inputs give equal images. */
const SOURCE_DATE_EPOCH = "1767225600";
const BOOTSTRAP_TIMEOUT_MS = 30 * 60_000;
const TOOL_TIMEOUT_MS = 5 * 60_000;

export interface BuildContext {
  recipe: ImageRecipe;
  runner: CommandRunner;
  /** one line of what the build is doing now */
  onStep: (text: string) => void;
}

/** One independently cached part of the guest. */
export interface Component {
  name: string;
  /** what a user reads while it is built */
  title: string;
  inputHash(context: BuildContext): Promise<string>;
  build(context: BuildContext, directory: string, built: (component: string) => string): Promise<void>;
}

const nodePackage = (): string => dirname(require.resolve(`node-linux-${process.arch}/package.json`));
const npmPackage = (): string => dirname(require.resolve("npm/package.json"));

async function packageVersion(directory: string): Promise<string> {
  return (JSON.parse(await readFile(join(directory, "package.json"), "utf8")) as { version: string }).version;
}

/** The root namespace of the VM: Debian with what the pilot runs, Node.js, and the kernel that fits its modules. */
const rootNamespace: Component = {
  name: "root",
  title: "root namespace and kernel (Debian packages)",
  async inputHash({ recipe }) {
    const hash = new InputHash().value("suite", recipe.suite).value("packages", recipe.rootNamespace).value("arch", process.arch);
    hash.value("node", await packageVersion(nodePackage()));
    await hash.file("lib.sh", join(HOOKS, "lib.sh"));
    return (await hash.file("hook", join(HOOKS, "root-namespace.sh"))).digest();
  },
  async build(context, directory) {
    await bootstrap(context, directory, "root-namespace.sh", context.recipe.rootNamespace, {});
    await writeFile(join(directory, "vmlinux"), extractVmlinux(await readFile(join(directory, "vmlinuz"))));
    await rm(join(directory, "vmlinuz"));
  },
};

/** The user's system: layers "base" and "languages". */
const userSystem: Component = {
  name: "system",
  title: "user's system: base and languages (Debian packages)",
  async inputHash({ recipe }) {
    const hash = new InputHash().value("suite", recipe.suite).value("base", recipe.systemBase).value("languages", recipe.languages);
    hash.value("arch", process.arch).value("node", await packageVersion(nodePackage()));
    hash.value("npm", await packageVersion(npmPackage()));
    await hash.file("lib.sh", join(HOOKS, "lib.sh"));
    return (await hash.file("hook", join(HOOKS, "user-system.sh"))).digest();
  },
  async build(context, directory) {
    const languages = { HOB_LANGUAGES: context.recipe.languages.join(" "), HOB_NPM: npmPackage() };
    await bootstrap(context, directory, "user-system.sh", context.recipe.systemBase, languages);
  },
};

/** Where the pilot mounts things: made here, because git keeps no empty folders and the sprite's own files stay untouched. */
const PLATFORM_MOUNT_POINTS = { folders: [".sprite/logs", ".sprite/checkpoints", ".sprite/policy"], files: [".sprite/api.sock"] };

/** The platform's additions to the user's system, under /.sprite. */
const platform: Component = {
  name: "platform",
  title: "platform layer",
  async inputHash() {
    const hash = new InputHash().value("version", HOB_VERSION).value("mount points", PLATFORM_MOUNT_POINTS);
    await hash.tree("sprite-env", join(PROJECT, "native/sprite-env"));
    await hash.file("build.sh", join(PROJECT, "native/build.sh"));
    return (await hash.tree("tree", join(PACKAGE, "platform"))).digest();
  },
  async build(context, directory) {
    const tree = join(directory, "tree");
    await cp(join(PACKAGE, "platform"), tree, { recursive: true });
    await writeFile(join(tree, ".sprite/version.txt"), `${HOB_VERSION}\n`);
    for (const folder of PLATFORM_MOUNT_POINTS.folders) await mkdir(join(tree, folder), { recursive: true });
    for (const file of PLATFORM_MOUNT_POINTS.files) await writeFile(join(tree, file), "");
    await compile(context, "sprite-env", join(tree, ".sprite/bin/sprite-env"));
    await makeErofs(context, tree, join(directory, "platform.erofs"));
  },
};

/** The pilot: its bundle and the native helper. The part that changes with every version of Hob. */
const pilot: Component = {
  name: "pilot",
  title: "pilot",
  async inputHash() {
    const hash = new InputHash();
    for (const name of ["pilot", "protocol", "linux", "storage"]) await hash.tree(name, join(PROJECT, "packages", name, "src"));
    await hash.tree("native", join(PROJECT, "native"));
    await hash.tree("bundle", join(PACKAGE, "bundle"));
    await hash.file("components", fileURLToPath(import.meta.url));
    return (await hash.file("lockfile", join(PROJECT, "package-lock.json"))).digest();
  },
  async build(context, directory) {
    const tree = join(directory, "tree");
    await mkdir(tree);
    const { build } = await import("esbuild");
    await build({
      entryPoints: [join(PROJECT, "packages/pilot/src/main.ts")],
      outfile: join(tree, "pilot.mjs"),
      bundle: true,
      platform: "node",
      format: "esm",
      target: "node24",
      minifySyntax: true,
      // Without a JIT, unmasking WebSocket messages in JavaScript is the slowest thing that the pilot does.
      alias: { bufferutil: join(PACKAGE, "bundle/bufferutil.cjs") },
      external: ["/pilot/*"],
      legalComments: "none",
      logLevel: "silent",
      // CommonJS dependencies in an ES module bundle need a require function.
      banner: { js: 'import { createRequire as hobCreateRequire } from "node:module"; const require = hobCreateRequire(import.meta.url);' },
    });
    await cp(
      join(dirname(require.resolve("bufferutil/package.json")), `prebuilds/linux-${process.arch}/bufferutil.node`),
      join(tree, "bufferutil.node"),
    );
    await compile(context, "hob-helper", join(tree, "hob-helper"));
    await compile(context, "hob-disk-meter", join(tree, "hob-disk-meter"));
    // Under the name that it has in the sprite; container/spec.ts.
    await mkdir(join(tree, "inside"));
    await compile(context, "hob-idle", join(tree, "inside/tail"));
    await compile(context, "hob-boot", join(directory, "hob-boot"));
    await compile(context, "hob-tsc", join(directory, "hob-tsc"));
    await makeErofs(context, tree, join(directory, "pilot.erofs"));
  },
};

/** Modules without which no disk and no root file system is found, in loading order; the pilot loads the others. */
const BOOT_MODULES = [
  "drivers/virtio/virtio_mmio",
  "drivers/block/virtio_blk",
  "net/core/failover",
  "drivers/net/net_failover",
  "drivers/net/virtio_net",
  "lib/libcrc32c",
  "fs/erofs/erofs",
];

/** The initramfs: hob-boot and the first modules. */
const initramfs: Component = {
  name: "initramfs",
  title: "initramfs",
  async inputHash(context) {
    const hash = new InputHash().value("modules", BOOT_MODULES);
    hash.value("root", await rootNamespace.inputHash(context));
    return hash.value("pilot", await pilot.inputHash(context)).digest();
  },
  async build(_context, directory, built) {
    const modules = join(built("root"), "modules");
    const [release = ""] = await readdir(modules);
    const entries: InitramfsEntry[] = [
      { path: "dev", kind: "directory", mode: 0o755 },
      { path: "dev/console", kind: "character-device", mode: 0o600, major: 5, minor: 1 },
      { path: "root", kind: "directory", mode: 0o755 },
      { path: "modules", kind: "directory", mode: 0o755 },
      { path: "init", kind: "file", mode: 0o755, data: await readFile(join(built("pilot"), "hob-boot")) },
    ];
    const order: string[] = [];
    for (const module of BOOT_MODULES) {
      const data = await readFile(join(modules, release, "kernel", `${module}.ko`)).catch(() => undefined);
      if (data === undefined) continue; // built into this kernel
      const path = `modules/${module.replaceAll("/", "_")}.ko`;
      entries.push({ path, kind: "file", mode: 0o644, data });
      order.push(`/${path}\n`);
    }
    entries.push({ path: "modules/order", kind: "file", mode: 0o644, data: Buffer.from(order.join("")) });
    await writeFile(join(directory, "initramfs.img"), buildInitramfs(entries));
  },
};

/** In building order. */
export const COMPONENTS: readonly Component[] = [rootNamespace, userSystem, platform, pilot, initramfs];

/** Installs packages into a new tree with mmdebstrap(1) and lets a hook make the images of it. */
async function bootstrap(
  context: BuildContext,
  directory: string,
  hook: string,
  packages: readonly string[],
  environment: Record<string, string>,
): Promise<void> {
  const { recipe, runner, onStep } = context;
  const node = join(directory, "node");
  await runner.run({ argv: ["strip", "-o", node, join(nodePackage(), "bin/node")], timeoutMs: TOOL_TIMEOUT_MS });
  const mirror = recipe.mirror || (await findDebianMirror(runner));
  const proxies = await findAptProxyOptions(runner);
  const mmdebstrap = [
    ...["mmdebstrap", "--mode=root", "--variant=minbase", "--format=null", "--skip=cleanup", `--include=${packages.join(",")}`],
    ...proxies.map((option) => `--aptopt=${option}`),
    '--customize-hook=exec sh "$HOB_HOOK" "$1"',
    ...[recipe.suite, "-", ...(mirror === "" ? [] : [mirror])],
  ];
  await runner
    .run({
      argv: asRootOfNamespace(mmdebstrap),
      timeoutMs: BOOTSTRAP_TIMEOUT_MS,
      env: {
        ...pickEnvironment(),
        ...environment,
        SOURCE_DATE_EPOCH,
        HOB_HOOK: join(HOOKS, hook),
        HOB_HOOKS: HOOKS,
        HOB_NODE: node,
        HOB_OUT: directory,
      },
      onStderrLine: (line) => onStep(line.replace(/^[IW]: /, "")),
    } satisfies Command)
    .catch((error: unknown) => {
      throw new HobError("image_build_failed", `build image from Debian ${recipe.suite}: ${(error as Error).message}`, {
        hint: "check the network, apt's sources and 'hob doctor'",
        cause: error,
      });
    });
  await rm(node);
}

/**
 * Owners and modes of the tree must come out right, so the build needs to be root of a namespace that maps them. An
 * ordinary user becomes that by subordinate ids, user_namespaces(7), subuid(5); no privilege on the machine is involved.
 */
function asRootOfNamespace(command: string[]): [string, ...string[]] {
  const argv = process.getuid?.() === 0 ? ["unshare", "--mount"] : ["unshare", "--map-root-user", "--map-auto", "--mount"];
  return ["unshare", ...argv.slice(1), "--", ...command];
}

/** What apt and the tools may need of the caller's environment; everything else would make builds differ. */
function pickEnvironment(): Record<string, string> {
  const names = ["PATH", "HOME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy"];
  return Object.fromEntries(names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])));
}

async function compile(context: BuildContext, program: string, out: string): Promise<void> {
  await context.runner.run({ argv: ["sh", join(PROJECT, "native/build.sh"), out, program], timeoutMs: TOOL_TIMEOUT_MS });
}

async function makeErofs(context: BuildContext, tree: string, image: string): Promise<void> {
  const script = '. "$1/lib.sh" && make_erofs "$2" "$3" --all-root';
  await context.runner.run({
    argv: asRootOfNamespace(["sh", "-euc", script, "sh", HOOKS, tree, image]),
    timeoutMs: TOOL_TIMEOUT_MS,
    env: { ...pickEnvironment(), SOURCE_DATE_EPOCH, HOB_OUT: dirname(image) },
  });
  await rm(tree, { recursive: true });
}
