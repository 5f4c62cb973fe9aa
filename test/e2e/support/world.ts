import { type ChildProcessByStdio, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";

const SERVER = fileURLToPath(new URL("world-server.ts", import.meta.url));

/** Between this machine and the network of the daemon. */
const HERE = { address: "10.251.77.1", daemon: "10.251.77.2" } as const;
/** Between the network of the daemon and the world. */
const OUTSIDE = { daemon: "10.251.78.2", gateway: "10.251.78.1" } as const;

/** Why there can be no world here, or undefined. */
export function worldUnavailable(): string | undefined {
  return process.getuid?.() === 0 ? undefined : "needs root, for network namespaces";
}

/**
 * A world of the test's own behind a daemon's uplink, in two network namespaces: one to start the daemon in, and one
 * with a DNS server and servers at public addresses. What sprites reach, and what names resolve to, is the test's to say.
 */
export class World implements AsyncDisposable {
  readonly #daemon = `hobd${process.pid}`;
  readonly #world = `hobw${process.pid}`;
  readonly #server: ChildProcessByStdio<Writable, Readable, null>;

  private constructor(records: Readonly<Record<string, string>>) {
    this.#connect(Object.values(records));
    // ip-netns(8) puts it in the place of /etc/resolv.conf for what is started there.
    mkdirSync(`/etc/netns/${this.#daemon}`, { recursive: true });
    writeFileSync(`/etc/netns/${this.#daemon}/resolv.conf`, `nameserver ${OUTSIDE.gateway}\n`);
    const argv = ["netns", "exec", this.#world, process.execPath, SERVER, JSON.stringify(records), OUTSIDE.gateway];
    this.#server = spawn("ip", argv, { stdio: ["pipe", "pipe", "inherit"] });
  }

  /** @param records IPv4 addresses by name */
  static async start(records: Readonly<Record<string, string>>): Promise<World> {
    const world = new World(records);
    await once(world.#server.stdout, "data");
    return world;
  }

  /** Goes before the command of a daemon. */
  get command(): string[] {
    return ["ip", "netns", "exec", this.#daemon];
  }

  /** Makes a daemon there listen where this machine reaches it. */
  get flags(): string[] {
    return ["--listen", `${HERE.daemon}:0`];
  }

  /** Requests that have reached the world's servers so far. */
  async requests(): Promise<number> {
    const answer = once(this.#server.stdout, "data");
    this.#server.stdin.write("?");
    return Number(String((await answer)[0]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#server, "exit");
    this.#server.stdin.end();
    await ended;
    for (const name of [this.#daemon, this.#world]) execFileSync("ip", ["netns", "del", name]);
    rmSync(`/etc/netns/${this.#daemon}`, { recursive: true, force: true });
  }

  #connect(addresses: readonly string[]): void {
    const [daemon, world] = [this.#daemon, this.#world];
    const here = `hobh${process.pid}`;
    const batch = (namespace: readonly string[], lines: readonly string[]) =>
      execFileSync("ip", [...namespace, "-batch", "-"], { input: lines.join("\n") });
    batch([], [`netns add ${daemon}`, `netns add ${world}`, `link add ${here} type veth peer name here netns ${daemon}`]);
    batch([], [`addr add ${HERE.address}/30 dev ${here}`, `link set ${here} up`]);
    batch(
      ["-n", daemon],
      [
        "link set lo up",
        `addr add ${HERE.daemon}/30 dev here`,
        "link set here up",
        `link add out type veth peer name in netns ${world}`,
        `addr add ${OUTSIDE.daemon}/24 dev out`,
        "link set out up",
      ],
    );
    batch(
      ["-n", world],
      [
        "link set lo up",
        `addr add ${OUTSIDE.gateway}/24 dev in`,
        "link set in up",
        ...[...new Set(addresses)].map((address) => `addr add ${address}/32 dev lo`),
      ],
    );
    batch(["-n", daemon], [`route add default via ${OUTSIDE.gateway}`]);
  }
}
