/** The pilot's servers over TCP and over the socket inside, with real commands, files and services in a real container. */
import { containerUnavailable } from "../../../../packages/pilot/test/support/container.ts";
import type { Random } from "../../../../packages/storage/test/support/random.ts";
import { mutated, mutatedJson, pieces } from "../mutate.ts";
import { type Subject, type Target, target } from "../target.ts";
import { checkServerFrames, frames } from "../web-socket-frames.ts";
import { answersIn, exchange, httpRequest, judge, UPGRADE } from "../wire.ts";
import { PILOT_TOKEN, PilotWorld } from "./pilot-world.ts";

const HOST = { Authorization: `Bearer ${PILOT_TOKEN}` };
const CLOSE = { ...HOST, Connection: "close" };
const BOX = "/v1/sprites/box";
const HOME = "/home/sprite";

/** Requests with bodies of JSON, some of which are mutated before they become text. None acts as root on the whole tree. */
const BODIES: readonly [method: string, path: string, body: unknown][] = [
  ["PUT", "/services/web?duration=0s", { cmd: "sleep", args: ["60"], env: { A: "1" }, dir: "/tmp", needs: [], http_port: 8080 }],
  ["POST", "/services/signal", { name: "web", signal: "TERM" }],
  ["POST", "/tasks", { name: "t", expire: "1m" }],
  ["PUT", "/tasks/t", { expire: 60 }],
  ["POST", "/fs/rename", { source: `${HOME}/a`, dest: `${HOME}/b`, workingDir: HOME }],
  ["POST", "/fs/copy", { source: `${HOME}/b`, dest: `${HOME}/c`, preserveAttrs: true }],
  ["POST", "/fs/chmod", { path: `${HOME}/c`, mode: "0640" }],
  ["POST", "/fs/chown", { path: `${HOME}/c`, uid: "sprite", gid: 1000 }],
  ["POST", "/fs/mkdir", { path: `${HOME}/d/e`, mode: 493, recursive: true }],
  ["POST", "/fs/symlink", { target: "a", path: `${HOME}/l` }],
  ["DELETE", "/fs/delete", { path: `${HOME}/d`, recursive: true }],
  ["POST", "/exec/1/kill", { signal: "TERM", timeout: "1s" }],
];

function jsonRequest(random: Random, prefix: string): Buffer {
  const [method, path, body] = random.pick(BODIES);
  return httpRequest(method, prefix + path, CLOSE, JSON.stringify(mutatedJson(random, body)));
}

const REQUESTS: readonly Buffer[] = [
  httpRequest("GET", `${BOX}/exec`, CLOSE),
  httpRequest("POST", `${BOX}/exec?cmd=echo&cmd=hello&env=A=1&dir=/tmp&stdin=false`, CLOSE),
  httpRequest("POST", `${BOX}/exec?cmd=cat&stdin=true&max_run_after_disconnect=1s`, CLOSE, "input"),
  httpRequest("GET", `${BOX}/fs/read?path=${HOME}/a`, { ...CLOSE, Range: "bytes=0-3" }),
  httpRequest("PUT", `${BOX}/fs/write?path=${HOME}/a&mode=0644&mkdirParents=true`, CLOSE, "content of a file"),
  Buffer.concat([
    httpRequest("PUT", `${BOX}/fs/write?path=b`, { ...CLOSE, "Transfer-Encoding": "chunked" }),
    Buffer.from("3\r\nabc\r\n0\r\n\r\n"),
  ]),
  httpRequest("GET", `${BOX}/fs/list?path=${HOME}&recursive=true&pattern=*&workingDir=/`, CLOSE),
  httpRequest("GET", `${BOX}/services`, CLOSE),
  httpRequest("GET", `${BOX}/services/web/logs?lines=5&duration=0s`, CLOSE),
  httpRequest("POST", `${BOX}/services/web/stop?timeout=0s`, CLOSE),
  httpRequest("POST", `${BOX}/services/web/start?duration=0s`, { ...CLOSE, "Hob-Request-Id": "0123" }),
  httpRequest("GET", `${BOX}/policy/network/log?tail=3&follow=false`, CLOSE),
  httpRequest("GET", `${BOX}/tasks/t%2F`, CLOSE),
  httpRequest("GET", `${BOX}/control`, CLOSE),
  Buffer.concat([httpRequest("GET", `${BOX}/tasks`, HOST), httpRequest("GET", `${BOX}/services/web`, CLOSE)]),
  httpRequest("GET", `${BOX}/exec?cmd=true`, { ...HOST, ...UPGRADE }),
  httpRequest("GET", `${BOX}/exec/1?output_offset=0`, { ...HOST, ...UPGRADE }),
];

const INSIDE: readonly Buffer[] = [
  httpRequest("GET", "/v1/services", { Connection: "close" }),
  httpRequest("GET", "/v1/info", { Connection: "close" }),
  httpRequest("GET", "/v1/tasks", { Connection: "close" }),
  httpRequest("DELETE", "/v1/tasks/t", { Connection: "close" }),
  httpRequest("GET", "/v1/services/web/logs?lines=5", { Connection: "close" }),
  httpRequest("POST", "/v1/services/web/restart?duration=0s", { Connection: "close" }),
  Buffer.concat([
    httpRequest("POST", "/v1/tasks", { "Transfer-Encoding": "chunked" }),
    Buffer.from('1d\r\n{"name":"t","expire":"10m"}  \r\n0\r\n\r\n'),
  ]),
];

interface HttpInput {
  inside: boolean;
  parts: Buffer[];
}

class PilotHttp implements Subject<HttpInput> {
  readonly #world: PilotWorld;

  constructor(world: PilotWorld) {
    this.#world = world;
  }

  input(random: Random): HttpInput {
    const inside = random.chance(0.3);
    const json = jsonRequest(random, inside ? "/v1" : BOX);
    const bytes = random.chance(0.3) ? json : mutated(random, [...(inside ? INSIDE : REQUESTS), json]);
    return { inside, parts: pieces(random, bytes) };
  }

  async run({ inside, parts }: HttpInput) {
    const where = inside ? { path: this.#world.insideSocket } : { host: "127.0.0.1", port: this.#world.port };
    const answers = answersIn(await exchange(where, parts));
    for (const { status, body } of answers) if (status === 101) checkServerFrames(body);
    return judge(answers);
  }

  settle(): Promise<number> {
    return this.#world.settle();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#world[Symbol.asyncDispose]();
  }
}

const TARGETS = [
  `${BOX}/exec?cmd=cat&stdin=true&max_run_after_disconnect=1s`,
  `${BOX}/exec?cmd=cat&tty=true&cols=80&rows=24&max_run_after_disconnect=1s`,
  `${BOX}/fs/watch`,
  `${BOX}/ports/watch`,
  `${BOX}/proxy`,
] as const;
const TEXTS = [
  '{"type":"resize","cols":100,"rows":30}',
  '{"type":"signal","signal":"INT"}',
  '{"type":"subscribe","paths":["/home/sprite","tmp"],"recursive":true,"workingDir":"/"}',
  '{"type":"unsubscribe","paths":["/home/sprite"]}',
  '{"host":"localhost","port":1,"half_close":true}',
  '{"host":"127.0.0.1","port":8080}',
  '{"type":"eof"}',
];
const BINARIES = [Buffer.from("\0input\n"), Buffer.of(4), Buffer.alloc(70_000, 0), Buffer.of(3, 0), Buffer.from("x")];

class PilotWebSockets implements Subject<{ path: string; bytes: Buffer }> {
  readonly #world: PilotWorld;

  constructor(world: PilotWorld) {
    this.#world = world;
  }

  input(random: Random) {
    return { path: random.pick(TARGETS), bytes: frames(random, TEXTS, BINARIES) };
  }

  async run({ path, bytes }: { path: string; bytes: Buffer }) {
    const request = httpRequest("GET", path, { ...HOST, ...UPGRADE });
    const answers = answersIn(await exchange({ host: "127.0.0.1", port: this.#world.port }, [request, bytes]));
    // A proxy that cannot connect, or whose first frame is none, closes with 1011: docs/api/ports.md.
    for (const { status, body } of answers) if (status === 101) checkServerFrames(body, path.endsWith("/proxy"));
    return judge(answers);
  }

  settle(): Promise<number> {
    return this.#world.settle();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#world[Symbol.asyncDispose]();
  }
}

const common = { lanes: 8, unavailable: containerUnavailable };

export const pilotTargets: readonly Target[] = [
  target(
    { name: "pilot-http", summary: "the pilot's HTTP: exec, files, services, tasks, logs, and the socket inside", weight: 1, ...common },
    async () => new PilotHttp(await PilotWorld.start()),
  ),
  target(
    { name: "pilot-websockets", summary: "the pilot's WebSockets: exec, terminals, watches, proxies", weight: 0.5, ...common },
    async () => new PilotWebSockets(await PilotWorld.start()),
  ),
];
