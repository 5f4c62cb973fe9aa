/**
 * From a fresh clone to commands in two real microVMs, through the CLI and the official SDK; leaves a daemon running.
 * `npm run quickstart -- --stop` ends that daemon again.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, openSync, readFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { SpritesClient } from "@fly/sprites";
import { homeLayout, loadConfig, readDaemonInfo, readTokenFile } from "@hob/hobd";
import { lastLines } from "@hob/linux";
import { PROJECT } from "./lib/steps.ts";

const HOB = `${PROJECT}bin/hob`;
const NAMES = ["quick-one", "quick-two"] as const;
const READY_TIMEOUT_MS = 10 * 60_000;
/** It saves its VMs. */
const STOP_TIMEOUT_MS = 2 * 60_000;
const WEB_SERVER = ["--http-port", "8080", "--duration", "1s", "--", "python3", "-m", "http.server", "8080", "--directory", "/srv"];
/** A server inside may need a while until it listens, under emulation. */
const URL_TIMEOUT_MS = 60_000;
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

/** The daemon is asked at its own address: not every resolver knows that names below localhost are this machine. */
async function askUrl(url: string, token: string): Promise<void> {
  const address = (await hob("url", NAMES[0])).trim();
  console.log(`  $ curl -H "Authorization: Bearer $HOB_TOKEN" ${address}/note`);
  const deadline = performance.now() + URL_TIMEOUT_MS;
  for (;;) {
    const { status, body } = await get(`${url}/note`, { host: new URL(address).host, authorization: `Bearer ${token}` });
    if (status === 200) return console.log(`    ${body.trimEnd()}`);
    if (performance.now() > deadline) throw new Error(`${address}/note answers ${status}: ${body.slice(0, 200)}`);
    await sleep(500);
  }
}

async function get(url: string, headers: Record<string, string>): Promise<{ status: number; body: string }> {
  const outgoing = request(url, { headers, agent: false });
  outgoing.end();
  const [response] = (await once(outgoing, "response")) as [IncomingMessage];
  return { status: response.statusCode ?? 0, body: (await response.toArray()).join("") };
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
  hob checkpoint diff quick-one v1 current
  hob fork quick-one@v1 quick-three
  hob list
  hob destroy quick-one quick-two
  npm run quickstart -- --stop    stop the daemon; its sprites keep everything`);
}

async function stopDaemon(): Promise<void> {
  const info = readDaemonInfo(home);
  if (info === undefined) return console.log("No daemon runs.");
  process.kill(info.pid, "SIGTERM");
  const deadline = performance.now() + STOP_TIMEOUT_MS;
  while (readDaemonInfo(home)?.pid === info.pid) {
    if (performance.now() > deadline) throw new Error(`the daemon, process ${info.pid}, still runs`);
    await sleep(100);
  }
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
  await step("Keep a web server running in the first", () => hob("services", "create", NAMES[0], "web", ...WEB_SERVER));
  await step("Ask it by the sprite's URL", () => askUrl(url, token));
  const taken = JSON.parse(await step("Take a checkpoint", () => hob("checkpoint", "create", NAMES[0], "--json"))) as { id: string };
  await step("Have an accident", () => hob("exec", NAMES[0], "--", "sudo", "rm", "-rf", "/srv/note", "/usr/bin/python3", "/etc/passwd"));
  await step("Put everything back: sessions end, services start again", () => hob("restore", NAMES[0], taken.id));
  await step("What was there is there again, and the URL answers", () => askUrl(url, token));
  report();
  nextCommands(url);
}

try {
  await (process.argv.includes("--stop") ? stopDaemon() : main());
} catch (error) {
  console.error(`\nquickstart: ${(error as Error).message}\n'bin/hob doctor' checks this machine.`);
  process.exitCode = 1;
}
