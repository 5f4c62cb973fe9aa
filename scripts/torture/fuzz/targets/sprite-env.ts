/** What `sprite-env` reads inside of a sprite: its command line, and answers of the API. In C, built with sanitizers. */
import { execFile, execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Random } from "../../../../packages/storage/test/support/random.ts";
import { HOSTILE_TEXTS, mutated, mutatedText, pieces } from "../mutate.ts";
import { ensure, Fault, type Subject, target, type Verdict } from "../target.ts";

const BUILD_SCRIPT = new URL("../../../../native/build.sh", import.meta.url).pathname;
const SANITIZED = "-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all";

const COMMANDS: readonly (readonly string[])[] = [
  ["services", "list"],
  ["services", "get", "web"],
  [
    "services",
    "create",
    "web",
    "--cmd",
    "python3",
    "--args",
    "-m,http.server,a\\,b",
    "--env",
    "A=1,B=x=y",
    "--needs",
    "db",
    "--http-port",
    "80",
  ],
  ["services", "create", "web", "--dir", "/srv", "--duration=2s", "--", "sh", "-c", 'echo "\\$1"', "--", "x"],
  ["services", "start", "--no-stream", "web"],
  ["services", "stop", "web", "--timeout", "3s"],
  ["services", "signal", "web", "HUP"],
  ["services", "logs", "web", "--lines=3", "--duration", "1h"],
  ["services", "--help"],
  ["checkpoints", "list", "--history", "v1"],
  ["checkpoints", "create", "--comment", 'before "it"'],
  ["checkpoints", "restore", "v1"],
  ["tasks", "create", "build", "--expire", "20m"],
  ["tasks", "update", "build"],
  ["tasks", "delete", "build"],
  ["info"],
  ["curl", "-s", "-X", "PUT", "/v1/services/web?duration=0", "-d", '{"cmd":"x"}'],
];

const head = (status: string, ...headers: readonly string[]): string => [`HTTP/1.1 ${status}`, ...headers, "", ""].join("\r\n");
const sized = (status: string, body: string): string => head(status, `Content-Length: ${Buffer.byteLength(body)}`) + body;
const chunked = (...chunks: readonly string[]): string =>
  head("200 OK", "Transfer-Encoding: chunked") +
  [...chunks, ""].map((one) => `${Buffer.byteLength(one).toString(16)}\r\n${one}\r\n`).join("");

const STREAM = ['{"type":"started","timestamp":1}\n', '{"type":"stdout","data":"\\u00fc\\n","timestamp":2}\n'];
const FAILED = '{"type":"error","data":"no such \\"program\\"","timestamp":3}\n';

/** What the API may answer, and with which status the program then ends. */
const ANSWERS: readonly (readonly [text: string, exit: 0 | 1])[] = [
  [sized("200 OK", '[{"name":"web"}]'), 0],
  [head("204 No Content"), 0],
  [`${head("200 OK")}until the end`, 0],
  [chunked(...STREAM), 0],
  [chunked(...STREAM, FAILED), 1],
  [sized("409 Conflict", '{"limit":5,"error":"conflict","message":"no \\"good\\"\\t\\u00fc","hint":"wait"}'), 1],
  [sized("500 Internal Server Error", "<html>"), 1],
  [head("503 Service Unavailable", "Content-Length: 0"), 1],
  [`${head("200 OK", "Content-Length: 10")}short`, 1],
  [chunked(...STREAM).slice(0, -7), 1],
];
const ANSWER_BYTES = ANSWERS.map(([text]) => Buffer.from(text));

interface Call {
  argv: readonly string[];
  answer: readonly Buffer[];
}

/** The kernel takes no longer argument (execve(2): MAX_ARG_STRLEN), and none with a zero byte. */
const asArgument = (text: string): string => text.replaceAll("\0", "").slice(0, 20_000);

class SpriteEnvSubject implements Subject<Call> {
  readonly #directory = mkdtempSync(join(tmpdir(), "hob-fuzz-"));
  readonly #program = join(this.#directory, "sprite-env");
  #calls = 0;

  constructor() {
    try {
      execFileSync(BUILD_SCRIPT, [this.#program, "sprite-env"], { stdio: "pipe", env: { ...process.env, CFLAGS: SANITIZED } });
    } catch {
      execFileSync(BUILD_SCRIPT, [this.#program, "sprite-env"], { stdio: "pipe" });
    }
  }

  input(random: Random): Call {
    const answer = pieces(random, random.chance(0.3) ? random.pick(ANSWER_BYTES) : mutated(random, ANSWER_BYTES));
    let argv = [...random.pick(COMMANDS)];
    if (random.chance(0.5)) argv = argv.map((word) => (random.chance(0.3) ? mutatedText(random, [word]) : word));
    if (random.chance(0.2)) argv.splice(random.below(argv.length + 1), random.below(3), ...random.pick(COMMANDS));
    if (random.chance(0.2)) argv.splice(random.below(argv.length + 1), 0, random.pick(HOSTILE_TEXTS));
    if (random.chance(0.03))
      argv.push(...Array.from({ length: random.pick([64, 65, 255, 256, 300]) }, () => random.pick(["x", "--env=A=1", "--cmd=x"])));
    return { argv: argv.map(asArgument), answer };
  }

  async run({ argv, answer }: Call): Promise<Verdict> {
    const path = join(this.#directory, `${this.#calls++}.sock`);
    await using api = await startApi(path, answer);
    const { code, stderr } = await this.#call(argv, path);
    ensure(code === 0 || code === 1 || code === 2, () => `it ended with ${code}: ${stderr.slice(0, 2_000)}`);
    ensure(!/Sanitizer|runtime error/.test(stderr), () => stderr.slice(0, 2_000));
    const requests = await api.requests();
    ensure(requests.length <= 1, () => `${requests.length} requests`);
    ensure(requests.length === 0 || code !== 2, () => "a command line that was refused did something all the same");
    const [request] = requests;
    if (request === undefined) return code === 2 ? "refused" : "accepted";
    checkRequest(argv, request);
    const expected = ANSWERS.find(([text]) => text === Buffer.concat(answer).toString("latin1"))?.[1];
    ensure(expected === undefined || code === expected, () => `it ended with ${code}, not ${expected}, after a right answer`);
    return "accepted";
  }

  #call(argv: readonly string[], socket: string): Promise<{ code: number | string; stderr: string }> {
    // Without curl(1) the program does itself what it can of it; with it, options of curl would write files.
    const env = { PATH: this.#directory, SPRITE_API_SOCKET: socket, ASAN_OPTIONS: "detect_leaks=0" };
    return new Promise((resolve) => {
      execFile(this.#program, argv, { env, timeout: 20_000, maxBuffer: 64 * 1024 * 1024, encoding: "latin1" }, (error, _stdout, stderr) =>
        resolve({ code: error === null ? 0 : (error.code ?? String(error.signal)), stderr }),
      );
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    rmSync(this.#directory, { recursive: true, force: true });
    return Promise.resolve();
  }
}

/** The line and the body are what HTTP and JSON allow, and what the user said is in them as it was said. */
function checkRequest(argv: readonly string[], request: Buffer): void {
  const end = request.indexOf("\r\n\r\n");
  const [first = "", ...headers] = request.subarray(0, end).toString("latin1").split("\r\n");
  if (argv[0] === "curl") return;
  ensure(
    /^(GET|PUT|POST|DELETE) \/v1\/[A-Za-z0-9._~%/?&=-]* HTTP\/1\.1$/.test(first),
    () => `it asked ${JSON.stringify(first.slice(0, 500))}`,
  );
  const length = Number(headers.find((line) => line.startsWith("Content-Length: "))?.slice("Content-Length: ".length) ?? 0);
  const body = request.subarray(end + 4);
  ensure(length === body.length, () => `a body of ${body.length} bytes, told to be ${length}`);
  if (length === 0) return;
  let json: Record<string, unknown>;
  try {
    json = JSON.parse(body.toString("utf8"));
  } catch (cause) {
    throw new Fault("wrong", `a body that is not JSON: ${body.toString("utf8").slice(0, 500)}`, { cause });
  }
  const said = argv.map(wellFormed);
  const whole = [json.cmd, json.name, json.signal, json.comment, json.expire, json.dir].filter((value) => typeof value === "string");
  for (const text of whole)
    ensure(text === "1h" || said.some((word) => word === text || word.endsWith(`=${text}`)), () => `nobody said ${text}`);
  const separator = said.indexOf("--");
  if (argv[1] === "create" && argv[0] === "services" && json.cmd === said[separator + 1] && separator >= 0 && !said.includes("--cmd"))
    ensure(JSON.stringify(json.args) === JSON.stringify(said.slice(separator + 2)), () => `other arguments: ${JSON.stringify(json.args)}`);
}

/** As the program gets it: what is no UTF-8 cannot be told in an argument. */
const wellFormed = (text: string): string => Buffer.from(text).toString("utf8");

interface Api extends AsyncDisposable {
  /** what came on each connection, when the client has closed it */
  requests(): Promise<Buffer[]>;
}

/** Answers each connection with the same bytes once the head of a request is there, and keeps what came. */
async function startApi(path: string, answer: readonly Buffer[]): Promise<Api> {
  const sockets = new Set<Socket>();
  const received: Buffer[][] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const parts: Buffer[] = [];
    received.push(parts);
    sockets.add(socket);
    socket.on("error", () => {}).on("data", (part: Buffer) => parts.push(part));
    socket.on("end", () => socket.destroy()).once("close", () => sockets.delete(socket));
    socket.once("data", () => {
      for (const part of answer) socket.write(part);
      socket.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    requests: async () => {
      await Promise.all([...sockets].map((socket) => once(socket, "close")));
      return received.map((parts) => Buffer.concat(parts));
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export const spriteEnv = target(
  { name: "sprite-env", summary: "command lines and answers of the API, at sprite-env built with sanitizers", weight: 0.3, lanes: 4 },
  () => new SpriteEnvSubject(),
);
