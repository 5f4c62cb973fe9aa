/**
 * From a fresh clone to commands in two real microVMs, through the CLI and the official SDK; leaves a daemon running.
 * `npm run quickstart -- --stop` ends that daemon again.
 */
import { spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { SpritesClient } from "@fly/sprites";
import { homeLayout, loadConfig, readDaemonInfo, readTokenFile } from "@hob/hobd";
import { lastLines } from "@hob/linux";
import { PROJECT } from "./lib/steps.ts";

const HOB = `${PROJECT}bin/hob`;
const NAMES = ["quick-one", "quick-two"] as const;
const READY_TIMEOUT_MS = 10 * 60_000;
const config = loadConfig(process.env);
const home = homeLayout(config.home);
const steps: { what: string; ms: number }[] = [];

/** Runs a step and keeps how long it took. */
async function step<T>(what: string, work: () => Promise<T>): Promise<T> {
  console.log(`\n\u25b8 ${what}`);
  const start = performance.now();
  const result = await work();
  steps.push({ what, ms: performance.now() - start });
  return result;
}

/** Types a command as the reader would, and shows it. @returns its standard output */
async function hob(...args: string[]): Promise<string> {
  console.log(`  $ hob ${args.map((arg) => (/[^\w./:@=-]/.test(arg) ? `'${arg}'` : arg)).join(" ")}`);
  const child = spawn(process.execPath, [HOB, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  for await (const chunk of child.stdout) output += String(chunk);
  const code = child.exitCode ?? (await new Promise<number | null>((resolve) => child.once("exit", resolve)));
  for (const line of output.trimEnd().split("\n")) if (line !== "") console.log(`    ${line}`);
  if (code !== 0) throw new Error(`hob ${args[0]} ended with exit code ${code}`);
  return output;
}

async function ensureDaemon(): Promise<{ url: string; token: string }> {
  if (!(await answers())) {
    console.log(`  $ hob serve   (in the background; its output: ${home.directory}/serve.log)`);
    mkdirSync(home.directory, { recursive: true, mode: 0o700 });
    const log = openSync(`${home.directory}/serve.log`, "w", 0o600);
    const child = spawn(process.execPath, [HOB, "serve"], { detached: true, stdio: ["ignore", log, log] });
    child.unref();
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (!(await answers())) {
      if (child.exitCode !== null || performance.now() > deadline) {
        throw new Error(`hob serve did not come up: ${lastLines(readFileSync(`${home.directory}/serve.log`, "utf8"), 5)}`);
      }
      await sleep(200);
    }
  }
  const [info, token] = [readDaemonInfo(home), readTokenFile(home)];
  if (info === undefined || token === undefined) throw new Error(`${home.directory} names no daemon or token`);
  console.log(`    ready at ${info.url}`);
  return { url: info.url, token };
}

async function answers(): Promise<boolean> {
  const info = readDaemonInfo(home);
  if (info === undefined) return false;
  return fetch(`${info.url}/healthz`, { signal: AbortSignal.timeout(2_000) }).then(
    (response) => response.ok,
    () => false,
  );
}

async function useSdk(url: string, token: string): Promise<void> {
  const sprite = new SpritesClient(token, { baseURL: url }).sprite(NAMES[1]);
  console.log("  const sprite = new SpritesClient(token, { baseURL }).sprite('quick-two')");
  const program = "require('node:os').cpus().length + ' CPUs, Node ' + process.version";
  console.log(`  await sprite.execFile('node', ['-p', "${program}"])`);
  console.log(`    ${(await sprite.execFile("node", ["-p", program])).stdout}`.trimEnd());
}

function report(): void {
  console.log("\nHow long it took");
  for (const { what, ms } of steps) console.log(`  ${(ms / 1000).toFixed(1).padStart(7)} s  ${what}`);
}

function nextCommands(url: string): void {
  console.log(`
Hob runs at ${url}; these two sprites are yours. Try:
  export PATH="${PROJECT}bin:$PATH"
  hob console quick-one           a shell in it; you are root with sudo
  hob create web                  one more, forked in about a second
  hob exec web -- python3 -V
  hob list
  hob destroy quick-one quick-two
  npm run quickstart -- --stop    stop the daemon; its sprites keep everything`);
}

async function stopDaemon(): Promise<void> {
  const info = readDaemonInfo(home);
  if (info === undefined) return console.log("No daemon runs.");
  process.kill(info.pid, "SIGTERM");
  while (readDaemonInfo(home)?.pid === info.pid) await sleep(100);
  console.log("Stopped.");
}

async function main(): Promise<void> {
  await step("Build the images (cached for the next time)", () => hob("image", "build"));
  const { url, token } = await step("Start the daemon", ensureDaemon);
  const existing = JSON.parse(await hob("list", "--json", "--prefix", "quick-")) as { name: string }[];
  const own = existing.map(({ name }) => name).filter((name) => (NAMES as readonly string[]).includes(name));
  if (own.length > 0) await step("Remove the sprites of the last quickstart", () => hob("destroy", "--force", ...own));
  await step("Create a sprite (the very first one waits for a template to boot)", () => hob("create", NAMES[0]));
  await step("Create another: a fork of the template", () => hob("create", NAMES[1]));
  await step("Run a command in the first", () => hob("exec", NAMES[0], "--", "sh", "-c", "uname -sr; id -un; hostname"));
  await step("Be root in it, and leave a file", () => hob("exec", NAMES[0], "--", "sudo", "sh", "-c", "id -un; echo kept > /srv/note"));
  await step("The same through the official SDK, in the second", () => useSdk(url, token));
  await step("Restart its container, not its kernel", () => hob("bounce", NAMES[0]));
  await step("What was written is still there", () => hob("exec", NAMES[0], "--", "cat", "/srv/note"));
  report();
  nextCommands(url);
}

try {
  await (process.argv.includes("--stop") ? stopDaemon() : main());
} catch (error) {
  console.error(`\nquickstart: ${(error as Error).message}\n'bin/hob doctor' checks this machine.`);
  process.exitCode = 1;
}
