/** What the pilot reads of the native helper's answers; a part of them comes from processes that run as the sprite's user. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { HobError } from "@hob/protocol";
import { FileError, type FileRequest } from "../../../../packages/pilot/src/helper/files.ts";
import { encodeFrame } from "../../../../packages/pilot/src/helper/frames.ts";
import { HelperClient } from "../../../../packages/pilot/src/helper/index.ts";
import { SERVER_FRAME } from "../../../../packages/pilot/src/helper/wire.ts";
import type { Random } from "../../../../packages/storage/test/support/random.ts";
import { type HostileAnswer, HostileServer } from "../hostile-server.ts";
import { mutated, pieces } from "../mutate.ts";
import { ensure, type Subject, target, type Verdict } from "../target.ts";

const USER = { name: "sprite", uid: 1000, gid: 1000 };
const ELSEWHERE = { initPid: 1, cgroupDir: "", seccompFile: "" };

const file = (operation: FileRequest["operation"], path: string): FileRequest => ({ operation, path, user: USER, target: ELSEWHERE });

/** What a pilot asks, each to its end. */
const QUESTIONS: Readonly<Record<string, (helper: HelperClient) => Promise<unknown>>> = {
  async exec(helper) {
    const child = await helper.exec({ argv: ["true"], env: {}, cwd: "/", uid: 1, gid: 1 });
    child.start({ stdout: () => {}, stderr: () => {} });
    child.write(Buffer.from("input"));
    await child.exited;
  },
  async read(helper) {
    const stream = await helper.files(file("read", "/a"));
    const sink = new Writable({ write: (_chunk, _encoding, done) => done() });
    await closing(stream, async () => stream.copyContent(Math.min(1 << 20, (await stream.info()).lengthBytes), sink));
  },
  async list(helper) {
    const stream = await helper.files(file("list", "/"));
    await closing(stream, async () => {
      for await (const entries of stream.entries())
        for (const { path } of entries) ensure(path.length <= 65_535, () => "a path that is too long");
    });
  },
  async watch(helper) {
    const stream = await helper.files(file("watch", "/"));
    await closing(stream, async () => {
      await stream.ready();
      for await (const events of stream.events()) for (const { timeMs } of events) ensure(!Number.isNaN(timeMs), () => "no time");
    });
  },
  async write(helper) {
    const stream = await helper.files(file("write", "/a"));
    await closing(stream, async () => {
      await stream.ready();
      await stream.write(Buffer.from("content"));
      stream.end();
      await stream.done();
    });
  },
  async listeners(helper) {
    const watch = await helper.watchListeners(1, 20, (all) => {
      for (const { port } of all) ensure(port >= 0 && port <= 65_535, () => `port ${port}`);
    });
    await watch.ended;
  },
  async compare(helper) {
    using comparison = await helper.compare();
    comparison.tellChanges([{ begin: 0, length: 1 }]);
    await comparison.sameContent(Buffer.from("/a"), Buffer.from("/b"), true);
    for (const { name } of await comparison.attributes(Buffer.from("/a"), Buffer.from("/b")))
      ensure(name.length <= 255, () => "a long name");
  },
  connect: async (helper) => (await helper.connectInside(1, [{ address: "127.0.0.1", port: 80 }])).socket.destroy(),
  sync: (helper) => helper.sync(),
  status: (helper) => helper.dmStatus("pool"),
  list_devices: (helper) => helper.dmList(),
  snapshot: (helper) => helper.dmSnapshot("pool", "create_snap 1 0", "volume", "/"),
  freeze: async (helper) => (await helper.freeze("/")).thaw(),
};

async function closing(stream: { close(): void }, use: () => Promise<void>): Promise<void> {
  try {
    await use();
  } finally {
    stream.close();
  }
}

const integers = (...values: readonly (readonly [bytes: number, value: number])[]): Buffer =>
  Buffer.concat(
    values.map(([bytes, value]) => {
      const field = Buffer.alloc(bytes);
      field.writeUIntLE(value, 0, Math.min(bytes, 6));
      return field;
    }),
  );
const ENTRY = Buffer.concat([integers([2, 1], [2, 0], [1, 0x66], [4, 0o644], [8, 5], [8, 1], [4, 2], [4, 0], [4, 0]), Buffer.from("a")]);
const EVENT = Buffer.concat([integers([1, 0x63], [1, 0], [2, 1], [8, 5], [8, 1_700_000_000]), Buffer.from("a")]);
const ATTRIBUTE = Buffer.concat([integers([1, 6], [2, 1], [2, 0xffff]), Buffer.from("user.ax")]);
const ANSWERS: readonly Buffer[] = [
  Buffer.concat([
    encodeFrame(SERVER_FRAME.ok),
    encodeFrame(SERVER_FRAME.progress, integers([8, 8_388_608])),
    encodeFrame(SERVER_FRAME.ok, Buffer.of(1)),
    encodeFrame(SERVER_FRAME.attribute, ATTRIBUTE),
    encodeFrame(SERVER_FRAME.ok),
  ]),
  encodeFrame(SERVER_FRAME.ok),
  encodeFrame(SERVER_FRAME.ok, Buffer.from("open=1 suspended=0 readonly=0 device=252:1\n0 8 thin 1 2\n")),
  encodeFrame(SERVER_FRAME.ok, Buffer.of(0)),
  encodeFrame(SERVER_FRAME.error, Buffer.concat([integers([4, 2]), Buffer.from("no such file")])),
  Buffer.concat([
    encodeFrame(SERVER_FRAME.started, integers([4, 17])),
    encodeFrame(SERVER_FRAME.stdout, Buffer.from("out")),
    encodeFrame(SERVER_FRAME.window, integers([4, 131_072])),
    encodeFrame(SERVER_FRAME.exit, Buffer.of(0, 1)),
  ]),
  Buffer.concat([encodeFrame(SERVER_FRAME.fileInfo, integers([8, 3], [8, 0], [8, 3], [8, 1], [4, 2], [8, 7], [1, 1])), Buffer.from("abc")]),
  Buffer.concat([
    encodeFrame(SERVER_FRAME.entries, Buffer.concat([ENTRY, ENTRY])),
    encodeFrame(SERVER_FRAME.done, integers([8, 2], [8, 10], [4, 0o644])),
  ]),
  Buffer.concat([encodeFrame(SERVER_FRAME.ok), encodeFrame(SERVER_FRAME.events, Buffer.concat([EVENT, EVENT]))]),
  Buffer.concat([encodeFrame(SERVER_FRAME.ok), encodeFrame(SERVER_FRAME.done, integers([8, 2], [8, 10], [4, 0o644]))]),
  encodeFrame(SERVER_FRAME.fileError, Buffer.concat([integers([4, 13]), Buffer.from("/a")])),
  Buffer.concat([
    encodeFrame(SERVER_FRAME.ok),
    encodeFrame(SERVER_FRAME.listeners, integers([2, 4], [2, 80], [4, 0], [4, 1], [4, 9], [8, 1], [8, 0])),
  ]),
];

interface Reply {
  question: string;
  answer: HostileAnswer;
}

class ReplySubject implements Subject<Reply> {
  readonly #directory = mkdtempSync(join(tmpdir(), "hob-fuzz-"));
  readonly #path = join(this.#directory, "helper.sock");
  readonly #client = new HelperClient(this.#path);
  #server!: HostileServer;

  static async start(): Promise<ReplySubject> {
    const subject = new ReplySubject();
    subject.#server = await HostileServer.start({ path: subject.#path, talks: "after anything" });
    return subject;
  }

  input(random: Random): Reply {
    return { question: random.pick(Object.keys(QUESTIONS)), answer: { parts: pieces(random, mutated(random, ANSWERS)), end: "end" } };
  }

  run({ question, answer }: Reply): Promise<Verdict> {
    return this.#server.with(answer, async () => {
      try {
        await QUESTIONS[question]?.(this.#client);
        return "accepted";
      } catch (error) {
        if (error instanceof HobError || error instanceof FileError) return "refused";
        throw error;
      }
    });
  }

  settle(): Promise<number> {
    return this.#server.settled();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

export const helperAnswers = target({ name: "helper-answers", summary: "answers of the native helper, at the pilot", weight: 1 }, () =>
  ReplySubject.start(),
);
