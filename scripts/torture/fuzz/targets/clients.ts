/** Answers that clients of ours get from servers that are not what they seem: a daemon, a pilot, the native helper, a VMM. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { HobError } from "@hob/protocol";
import { HobClient } from "../../../../packages/client/src/client.ts";
import { SpriteUses } from "../../../../packages/hobd/src/activity/use.ts";
import { createPilotRequester } from "../../../../packages/hobd/src/front-door/pilot-locator.ts";
import { openTunnel } from "../../../../packages/hobd/src/ingress/tunnel.ts";
import { pullLogs } from "../../../../packages/hobd/src/log-shipping/pull.ts";
import type { SpriteRecord } from "../../../../packages/hobd/src/registry/registry.ts";
import { PilotClient } from "../../../../packages/hobd/src/runtime/pilot-client.ts";
import { QmpClient } from "../../../../packages/hobd/src/vmm/qemu/qmp.ts";
import type { Random } from "../../../../packages/storage/test/support/random.ts";
import { type HostileAnswer, HostileServer } from "../hostile-server.ts";
import { mutated, mutatedText, pieces } from "../mutate.ts";
import { ensure, type Subject, type Target, target, type Verdict } from "../target.ts";
import { frame, frames, OPCODE } from "../web-socket-frames.ts";

/** A change of the protocol that nobody asked for. */
const SWITCH = "101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x";

/** An answer with this body, right or mutated in its head, its body, or both. */
function httpAnswer(random: Random, body: string, type = "application/json"): Buffer {
  const content = Buffer.from(random.chance(0.8) ? mutatedText(random, [body]) : body);
  const isChunked = random.chance(0.3);
  const framing = isChunked ? "Transfer-Encoding: chunked" : `Content-Length: ${content.length}`;
  const status = random.pick([
    "200 OK",
    "200 OK",
    "200 OK",
    "204 No Content",
    "400 Bad Request",
    "404 Not Found",
    "503 Unavailable",
    SWITCH,
  ]);
  const head = `HTTP/1.1 ${status}\r\nContent-Type: ${type}\r\n${framing}\r\nConnection: close\r\n\r\n`;
  const payload = isChunked
    ? Buffer.concat([Buffer.from(`${content.length.toString(16)}\r\n`), content, Buffer.from("\r\n0\r\n\r\n")])
    : content;
  const whole = Buffer.concat([Buffer.from(head), payload]);
  return random.chance(0.15) ? mutated(random, [whole]) : whole;
}

const ending = (random: Random, bytes: Buffer): HostileAnswer => ({
  parts: pieces(random, bytes),
  end: random.chance(0.1) ? "reset" : "end",
});

/** A call that ends with a value or an error of ours. */
async function outcome(
  work: () => Promise<unknown>,
  isOurs: (error: unknown) => boolean = (error) => error instanceof HobError,
): Promise<Verdict> {
  try {
    await work();
    return "accepted";
  } catch (error) {
    if (isOurs(error)) return "refused";
    throw error;
  }
}

async function drain(items: AsyncIterable<unknown>): Promise<void> {
  for await (const item of items)
    ensure(typeof item === "object" && item !== null, () => `a line that is no object: ${JSON.stringify(item)}`);
}

const LINES =
  '{"type":"stdout","data":"a\\n","timestamp":1}\n\n{"type":"complete","id":"v1"}\n{"type":"error","error":"bad","code":"no_space"}\n';
const SCALARS = 'null\n5\n"x"\n[]\n';
const LIST =
  '{"sprites":[{"name":"box","id":"s"}],"has_more":false,"sessions":[{"id":"1"}],"error":"not_found","message":"none","hint":"x"}';

const CALLS: Readonly<Record<string, { lines?: true; call: (client: HobClient) => Promise<unknown> }>> = {
  list: { call: (client) => client.listPage() },
  get: { call: (client) => client.get("box") },
  sessions: { call: (client) => client.sessions("box") },
  logs: { lines: true, call: async (client) => drain((await client.services("box")).logs("web")) },
  start: { lines: true, call: async (client) => drain((await client.services("box")).start("web")) },
  kill: { lines: true, call: (client) => drain(client.killSession("box", "1")) },
  watch: { lines: true, call: (client) => drain(client.watch()) },
  network: { lines: true, call: (client) => drain(client.policies("box").networkLog()) },
  checkpoint: { lines: true, call: async (client) => (await client.checkpoints("box")).create("c") },
  diff: { lines: true, call: async (client) => drain((await client.checkpoints("box")).diff("v1")) },
};

interface ClientInput {
  name: string;
  answer: HostileAnswer;
}

const clientAnswers = target<ClientInput>(
  { name: "client-answers", summary: "answers and NDJSON streams of a daemon, at our client", weight: 1, lanes: 8 },
  async () => {
    const server = await HostileServer.start();
    return {
      input: (random) => {
        const name = random.pick(Object.keys(CALLS));
        const { lines } = CALLS[name] ?? {};
        return {
          name,
          answer: ending(
            random,
            lines ? httpAnswer(random, random.chance(0.1) ? SCALARS : LINES, "application/x-ndjson") : httpAnswer(random, LIST),
          ),
        };
      },
      run: ({ name, answer }) =>
        server.with(answer, (token) =>
          outcome(async () => CALLS[name]?.call(new HobClient({ url: `http://127.0.0.1:${server.port}`, token }))),
        ),
      settle: () => server.settled(),
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    };
  },
);

const TEXTS = [
  '{"type":"session_info","session_id":"1","command":"bash","created":1,"cols":0,"rows":0,"is_owner":true,"tty":false,"output_offset":0}',
  '{"type":"exit","exit_code":0,"code":0}',
  '{"status":"connected","target":"127.0.0.1:80"}',
  '{"status":"error","error":"nothing_listens","message":"no"}',
  '{"type":"port_opened","port":80,"address":"::","pid":1}',
  '{"type":"port_list","ports":[]}',
  "null",
];
const BINARIES = [Buffer.from("\x01output"), Buffer.from("\x02error"), Buffer.of(3, 0), Buffer.of(3), Buffer.alloc(0)];
const SOCKETS = ["exec", "proxy", "ports"] as const;

interface SocketInput {
  kind: (typeof SOCKETS)[number];
  answer: HostileAnswer;
}

async function useSocket(kind: SocketInput["kind"], client: HobClient): Promise<void> {
  if (kind === "ports") await (await client.watchPorts("box", {})).ended;
  else if (kind === "proxy") {
    const stream = await client.openProxy("box", { port: 80 });
    await finished(stream.end().resume()).catch(() => {});
  } else {
    const session = await client.exec("box", { command: ["true"], connectTimeoutMs: 5_000 });
    session.stdout.resume();
    session.stderr.resume();
    await session.exit;
  }
}

const clientSockets = target<SocketInput>(
  { name: "client-websockets", summary: "WebSocket frames of a daemon, at our client", weight: 0.5, lanes: 8 },
  async () => {
    const server = await HostileServer.start();
    return {
      input: (random) => {
        const made = Buffer.concat([
          Buffer.from("@upgrade"),
          frames(random, TEXTS, BINARIES, false),
          frame(OPCODE.close, Buffer.of(3, 232), { masked: false }),
        ]);
        return { kind: random.pick(SOCKETS), answer: { parts: [made], end: random.chance(0.1) ? "reset" : "end" } };
      },
      run: ({ kind, answer }) =>
        server.with(answer, (token) => outcome(() => useSocket(kind, new HobClient({ url: `http://127.0.0.1:${server.port}`, token })))),
      settle: () => server.settled(),
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    };
  },
);

const PILOT_BODIES = [
  '{"holders":[{"kind":"exec","label":"bash","since":1}],"idleMs":5,"ready":true}',
  '{"blocks":[{"service":"web","stream":"stdout","timeMs":1,"text":"a\\n"}],"cursor":{"web":{"segment":"1.2","offset":3}}}',
  '{"protocol":2,"version":"0.1.0","uptimeMs":1,"pilotPid":1,"bounces":0,"spriteId":"s"}',
  '{"error":"nothing_listens","message":"<b>nothing</b>","hint":"start it"}',
];
const RECORD = { id: "s1", name: "box" } as SpriteRecord;

const requester = (port: number, token: string) =>
  createPilotRequester(async () => ({ host: "127.0.0.1", port, token, bootId: "b" }), new SpriteUses(Date.now));

const PILOT_CALLS: Readonly<Record<string, (port: number, token: string) => Promise<unknown>>> = {
  activity: (port, token) => new PilotClient(port, token).activity(),
  prepareSleep: (port, token) => new PilotClient(port, token).prepareSleep({ idleMs: 1, force: false }),
  ready: (port, token) => new PilotClient(port, token).waitUntilReady(0, () => true),
  thaw: (port, token) => new PilotClient(port, token).thaw(),
  check: (port, token) => requester(port, token)(RECORD, "/hob/ready", AbortSignal.timeout(5_000)),
  tunnel: async (port, token) => (await openTunnel(async () => ({ host: "127.0.0.1", port, token, bootId: "b" }), RECORD)).destroy(),
  logs: (port, token) => pullLogs({ host: "127.0.0.1", port, token }, {}, new AbortController().signal),
};

const pilotAnswers = target<ClientInput>(
  { name: "pilot-answers", summary: "answers of a sprite's pilot, at the daemon: a guest's bytes on the host", weight: 1, lanes: 8 },
  async () => {
    const server = await HostileServer.start();
    return {
      input: (random) => {
        const name = random.pick(Object.keys(PILOT_CALLS));
        const body = random.pick(PILOT_BODIES);
        const upgrade = Buffer.from(
          "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: hob-tunnel\r\n\r\n",
        );
        return { name, answer: ending(random, random.chance(0.1) ? mutated(random, [upgrade]) : httpAnswer(random, body)) };
      },
      run: ({ name, answer }) =>
        // The shipper of logs tries again after whatever error.
        server.with(answer, (token) =>
          outcome(
            async () => PILOT_CALLS[name]?.(server.port, token),
            (error) => error instanceof HobError || name === "logs",
          ),
        ),
      settle: () => server.settled(),
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    };
  },
);

/** What it says at first, and after each command. */
const QMP = [
  ['{"QMP":{"version":{},"capabilities":[]}}\r\n'],
  ['{"return":{}}\r\n'],
  ['{"event":"RESET"}\r\n{"return":{"status":"running"}}\r\n', '{"error":{"class":"GenericError","desc":"no"}}\r\n', '{"error":null}\r\n'],
] as const;

class VmmSubject implements Subject<HostileAnswer> {
  readonly #directory = mkdtempSync(join(tmpdir(), "hob-fuzz-"));
  readonly #path = join(this.#directory, "qmp");
  #server!: HostileServer;

  static async start(): Promise<VmmSubject> {
    const subject = new VmmSubject();
    subject.#server = await HostileServer.start({ path: subject.#path, talks: "first" });
    return subject;
  }

  input(random: Random): HostileAnswer {
    const parts = QMP.map((texts) => Buffer.from(random.chance(0.3) ? mutatedText(random, texts) : random.pick(texts)));
    return { parts, end: "end" };
  }

  run(answer: HostileAnswer): Promise<Verdict> {
    return this.#server.with(answer, () =>
      outcome(async () => {
        const client = await QmpClient.connect(this.#path, 20);
        try {
          await client.execute("query-status", {}, 100);
        } finally {
          client.close();
        }
      }),
    );
  }

  settle(): Promise<number> {
    return this.#server.settled();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

const vmm = target({ name: "vmm-answers", summary: "answers and events of QEMU, at the daemon", weight: 0.2 }, () => VmmSubject.start());

export const clientTargets: readonly Target[] = [clientAnswers, clientSockets, pilotAnswers, vmm];
