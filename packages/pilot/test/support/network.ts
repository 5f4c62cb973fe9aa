import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type Command, type CommandResult, type CommandRunner, SystemCommandRunner } from "@hob/linux";

const AGENT = join(import.meta.dirname, "network-agent.ts");

/** Why networks of their own cannot be made here, or undefined. */
export function networksUnavailable(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root";
  const probe = `hobprobe${process.pid}`;
  try {
    execFileSync("dnsmasq", ["--version"], { stdio: "pipe" });
    execFileSync("ip", ["netns", "add", probe], { stdio: "pipe" });
  } catch {
    return "needs dnsmasq, and ip with network namespaces";
  }
  try {
    execFileSync("ip", ["netns", "exec", probe, "nft", "add table inet hob"], { stdio: "pipe" });
    return undefined;
  } catch {
    return "needs nft";
  } finally {
    execFileSync("ip", ["netns", "del", probe]);
  }
}

/** What one line to the agent brought: its result, or the error's code. */
export type Outcome = { result: unknown } | { error: string };

/** A process in a network namespace that does what it is asked. */
export class Agent {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #waiting = new Map<number, (outcome: Outcome) => void>();
  #lastId = 0;

  constructor(namespace: string) {
    this.#child = spawn("ip", ["netns", "exec", namespace, process.execPath, AGENT]);
    this.#child.stderr.pipe(process.stderr);
    this.#child.stdin.on("error", () => {});
    createInterface({ input: this.#child.stdout }).on("line", (line) => {
      const { id, ...outcome } = JSON.parse(line) as { id: number } & Outcome;
      this.#waiting.get(id)?.(outcome);
      this.#waiting.delete(id);
    });
  }

  ask(op: string, more: object = {}): Promise<Outcome> {
    const id = ++this.#lastId;
    this.#child.stdin.write(`${JSON.stringify({ id, op, ...more })}\n`);
    return new Promise((resolve) => this.#waiting.set(id, resolve));
  }

  async get(op: string, more: object = {}): Promise<unknown> {
    const outcome = await this.ask(op, more);
    assert.ok("result" in outcome, `${op} ${JSON.stringify(more)}: ${JSON.stringify(outcome)}`);
    return outcome.result;
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    this.#child.stdin.end();
    await once(this.#child, "exit");
  }
}

/**
 * The networks of one sprite, as namespaces of this machine: the sprite, the root namespace of its VM, and the world
 * behind it with a DNS server and servers at public addresses.
 */
export class TestNetwork implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), "hob-network-"));
  readonly root: string;
  /** runs commands in the root namespace */
  readonly runner: CommandRunner;
  readonly sprite: Agent;
  readonly rootAgent: Agent;
  readonly #namespaces: readonly [sprite: string, root: string, world: string];
  readonly #world: Agent;
  readonly #dns: ReturnType<typeof spawn>;

  private constructor(id: string, records: string) {
    const names = (["s", "r", "w"] as const).map((letter) => `hob${letter}${id}`) as [string, string, string];
    this.#namespaces = names;
    this.root = names[1];
    makeNamespaces(names);
    this.runner = inNamespace(this.root);
    [this.sprite, this.rootAgent, this.#world] = names.map((name) => new Agent(name)) as [Agent, Agent, Agent];
    const config = join(this.directory, "world.conf");
    writeFileSync(
      config,
      `no-resolv\nno-hosts\nlocal-ttl=60\nuser=root\nlisten-address=${WORLD.dns}\nbind-interfaces\npid-file=\n${records}`,
    );
    this.#dns = spawn("ip", ["netns", "exec", names[2], "dnsmasq", "--keep-in-foreground", `--conf-file=${config}`, "--log-facility=-"], {
      stdio: ["ignore", "ignore", "ignore"],
    });
  }

  /** @param records configuration of the world's dnsmasq */
  static async start(records: string): Promise<TestNetwork> {
    const network = new TestNetwork(`${process.pid}`, records);
    await network.#world.get("serve", { ports: [80, 443, 853], addresses: PUBLIC });
    return network;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.sprite, this.rootAgent, this.#world].map((agent) => agent.end()));
    const ended = once(this.#dns, "exit");
    this.#dns.kill("SIGKILL");
    await ended;
    for (const name of this.#namespaces) execFileSync("ip", ["netns", "del", name]);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Addresses behind the root namespace. */
export const WORLD = {
  gateway: "10.9.0.1",
  dns: "10.9.0.3",
  /** public ones, by what their names are in the tests */
  one: "93.184.216.1",
  two: "93.184.216.2",
  three: "93.184.216.3",
  oneV6: "2606:2800:220::1",
  twoV6: "2606:2800:220::2",
  /** of a private range, though it can be reached */
  private: "192.168.77.7",
  /** the sprite has given itself this one, and the root namespace knows the way there */
  spoofed: "172.31.9.9",
} as const;

const PUBLIC = [WORLD.one, WORLD.two, WORLD.three, WORLD.oneV6, WORLD.twoV6];

function makeNamespaces([sprite, root, world]: readonly [string, string, string]): void {
  const run = (...args: string[]) => execFileSync("ip", args, { stdio: "pipe" });
  for (const name of [sprite, root, world]) run("netns", "add", name);
  const batch = (namespace: string, lines: readonly string[]) =>
    execFileSync("ip", ["-n", namespace, "-batch", "-"], { input: lines.join("\n"), stdio: "pipe" });
  run("-n", root, "link", "add", "spr0h", "type", "veth", "peer", "name", "spr0", "netns", sprite);
  run("-n", root, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", world);
  batch(sprite, [
    "link set lo up",
    "addr add 10.0.0.1/24 dev spr0",
    "addr add fdf::1/64 dev spr0 nodad",
    "link set spr0 up",
    "route add default via 10.0.0.2",
    "route add default via fdf::2",
    `addr add ${WORLD.spoofed}/32 dev lo`,
  ]);
  batch(root, [
    "link set lo up",
    "addr add 10.0.0.2/24 dev spr0h",
    "addr add fdf::2/64 dev spr0h nodad",
    "addr add 10.9.0.2/24 dev eth0",
    "addr add fd09::2/64 dev eth0 nodad",
    "link set spr0h up",
    "link set eth0 up",
    "route add default via 10.9.0.1",
    "route add default via fd09::1",
    `route add ${WORLD.spoofed}/32 via 10.0.0.1`,
  ]);
  const publicAddresses = [WORLD.one, WORLD.two, WORLD.three, WORLD.private].map((address) => `addr add ${address}/32 dev lo`);
  batch(world, [
    "link set lo up",
    `addr add ${WORLD.gateway}/24 dev eth0`,
    `addr add ${WORLD.dns}/24 dev eth0`,
    "addr add fd09::1/64 dev eth0 nodad",
    ...publicAddresses,
    `addr add ${WORLD.oneV6}/128 dev lo nodad`,
    `addr add ${WORLD.twoV6}/128 dev lo nodad`,
    "link set eth0 up",
    "route add fdf::/64 via fd09::2",
  ]);
  const forward = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding";
  execFileSync("ip", ["netns", "exec", root, "sh", "-c", forward]);
}

function inNamespace(namespace: string): CommandRunner {
  const system = new SystemCommandRunner();
  return {
    run: (command: Command): Promise<CommandResult> =>
      system.run({ ...command, argv: ["ip", "netns", "exec", namespace, ...command.argv] }),
  };
}
