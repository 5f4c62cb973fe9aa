/** What the native helper reads of the pilot, in C, built with sanitizers. */
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { encodeExec } from "../../../../packages/pilot/src/helper/exec-request.ts";
import { encodeFileRequest } from "../../../../packages/pilot/src/helper/files.ts";
import { encodeFrame, FrameDecoder, ItemWriter } from "../../../../packages/pilot/src/helper/frames.ts";
import { CLIENT_FRAME, REQUEST, SERVER_FRAME, TAG } from "../../../../packages/pilot/src/helper/wire.ts";
import { containerUnavailable, startContainer, type TestContainer } from "../../../../packages/pilot/test/support/container.ts";
import { type RunningHelper, startHelper, waitFor } from "../../../../packages/pilot/test/support/helper.ts";
import type { Random } from "../../../../packages/storage/test/support/random.ts";
import { mutated, pieces } from "../mutate.ts";
import { ensure, Fault, type Subject, target, type Verdict } from "../target.ts";

const USER = { name: "sprite", uid: 1000, gid: 1000 };

/** Requests for the container; what the helper does outside of it is asked only in a form that it must refuse. */
const SAFE: ReadonlySet<number> = new Set([REQUEST.exec, REQUEST.files, REQUEST.sockets]);

class RequestSubject implements Subject<Buffer[]> {
  readonly #helper: RunningHelper;
  readonly #container: TestContainer;
  readonly #corpus: readonly Buffer[];

  private constructor(helper: RunningHelper, container: TestContainer) {
    this.#helper = helper;
    this.#container = container;
    const { target: inside } = container;
    const spec = { argv: ["true"], env: { PATH: "/usr/bin:/bin" }, cwd: "/", uid: 1000, gid: 1000, user: "sprite", target: inside };
    const about = { user: USER, target: inside };
    this.#corpus = [
      encodeExec(spec),
      Buffer.concat([
        encodeExec({ ...spec, argv: ["cat"] }),
        encodeFrame(CLIENT_FRAME.stdin, Buffer.from("x")),
        encodeFrame(CLIENT_FRAME.stdinEof),
      ]),
      Buffer.concat([
        encodeExec({ ...spec, argv: ["cat"], tty: { cols: 80, rows: 24 } }),
        encodeFrame(CLIENT_FRAME.resize, Buffer.of(80, 0, 24, 0)),
        encodeFrame(CLIENT_FRAME.signal, Buffer.of(15)),
      ]),
      encodeFileRequest({ operation: "read", path: "/etc/passwd", range: { offset: 1, length: 5 }, ...about }),
      Buffer.concat([
        encodeFileRequest({ operation: "write", path: "/home/sprite/a", mode: 0o644, flags: { parents: true }, ...about }),
        encodeFrame(CLIENT_FRAME.stdin, Buffer.from("content")),
        encodeFrame(CLIENT_FRAME.stdinEof),
      ]),
      encodeFileRequest({ operation: "list", path: "/home", pattern: "*/**", flags: { itself: true }, ...about }),
      encodeFileRequest({ operation: "rename", path: "/home/sprite/a", destination: "/home/sprite/b", ...about }),
      encodeFileRequest({ operation: "chown", path: "/home/sprite/b", owner: "sprite", group: "+1000", ...about }),
      encodeFileRequest({ operation: "watch", path: "/home/sprite", flags: { recursive: true }, ...about }),
      encodeFrame(REQUEST.sockets, new ItemWriter().u32(TAG.targetPid, inside.initPid).u32(TAG.intervalMs, 20).finish()),
      encodeFrame(
        REQUEST.sockets,
        new ItemWriter()
          .u32(TAG.targetPid, inside.initPid)
          .u32(TAG.timeoutMs, 100)
          .bytes(TAG.endpoint, Buffer.of(1, 0, 127, 0, 0, 1))
          .finish(),
      ),
    ];
  }

  static async start(): Promise<RequestSubject> {
    const helper = await startHelper();
    try {
      return new RequestSubject(helper, await startContainer());
    } catch (error) {
      await helper[Symbol.asyncDispose]();
      throw error;
    }
  }

  input(random: Random): Buffer[] {
    return pieces(random, this.#inside(random, mutated(random, this.#corpus)));
  }

  /** Whatever a mutation has made of it, the request stays one for the container: this helper is the machine's root. */
  #inside(random: Random, bytes: Buffer): Buffer {
    if (bytes.length < 5) return bytes;
    const copy = Buffer.from(bytes);
    const type = copy[4] ?? 0;
    if (!SAFE.has(type) && type < 32) copy[4] = random.pick([...SAFE, 0, 14, 31]);
    const length = Math.min(copy.readUInt32LE(0), copy.length - 5);
    for (let at = 5; at + 5 <= 5 + length; ) {
      const size = copy.readUInt32LE(at + 1);
      if (copy[at] === TAG.targetPid && size === 4 && at + 9 <= copy.length) copy.writeUInt32LE(this.#container.target.initPid, at + 5);
      at += 5 + size;
    }
    // Without a target a process would run beside the helper.
    return hasTarget(copy, this.#container.target.initPid) ? copy : copy.subarray(0, 4 + random.below(2));
  }

  async run(parts: Buffer[]): Promise<Verdict> {
    const bytes = await conversation(this.#helper.socketPath, parts);
    const decoder = new FrameDecoder(65_536);
    decoder.push(bytes);
    const first = decoder.next();
    // What follows the connection of SOCKETS or the content of a file are no frames.
    ensure(first === undefined || Object.values(SERVER_FRAME).includes(first.type as 64), () => `a frame of type ${first?.type}`);
    return first === undefined || first.type === SERVER_FRAME.error || first.type === SERVER_FRAME.fileError ? "refused" : "accepted";
  }

  async settle(): Promise<number> {
    const { process: helper } = this.#helper;
    const children = () => readFileSync(`/proc/${helper.pid}/task/${helper.pid}/children`, "utf8").split(" ").filter(Boolean).length;
    await waitFor(() => children() === 0, "the end of all requests", 30_000).catch(() => {});
    ensure(helper.exitCode === null && helper.signalCode === null, () => "the helper has ended");
    if (this.#helper.stderr() !== "") throw new Fault("crash", this.#helper.stderr().slice(0, 3_000));
    return children();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#helper[Symbol.asyncDispose]();
    await this.#container[Symbol.asyncDispose]();
  }
}

/** Whether each TARGET_PID names the container, and there is one. */
function hasTarget(bytes: Buffer, initPid: number): boolean {
  let found = false;
  const end = Math.min(bytes.length, 5 + bytes.readUInt32LE(0));
  for (let at = 5; at + 5 <= end; at += 5 + bytes.readUInt32LE(at + 1)) {
    if (bytes[at] !== TAG.targetPid) continue;
    if (at + 9 > bytes.length || bytes.readUInt32LE(at + 1) !== 4 || bytes.readUInt32LE(at + 5) !== initPid) return false;
    found = true;
  }
  return found;
}

/** Sends all, and gives what comes before the end, which a silence makes. @throws Fault `hang` */
function conversation(path: string, parts: readonly Buffer[]): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const received: Buffer[] = [];
    const socket = connect({ path });
    const quiet = setTimeout(() => socket.end(), 60);
    const late = setTimeout(() => {
      socket.destroy();
      reject(new Fault("hang", "the helper keeps the connection 20 s after the pilot's end"));
    }, 20_000);
    socket.on("data", (chunk) => {
      received.push(chunk);
      quiet.refresh();
    });
    socket.on("error", () => {});
    socket.once("close", () => {
      clearTimeout(quiet);
      clearTimeout(late);
      resolve(Buffer.concat(received));
    });
    for (const part of parts) socket.write(part);
  });
}

export const helperRequests = target(
  {
    name: "helper-requests",
    summary: "requests of the pilot, at the native helper built with sanitizers",
    weight: 0.5,
    lanes: 8,
    unavailable: containerUnavailable,
  },
  () => RequestSubject.start(),
);
