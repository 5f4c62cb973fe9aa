/** What a crash, or a disk, may have left in files: each is either read, or said to be damaged, or counts as not there. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Activity } from "../../../../packages/pilot/src/activity/activity.ts";
import { encodeHeader } from "../../../../packages/pilot/src/exec/journal/records.ts";
import { JournalStore } from "../../../../packages/pilot/src/exec/journal/store.ts";
import { parseDmStatus } from "../../../../packages/pilot/src/helper/device-mapper.ts";
import { LINE_BYTES_MAX, LineSplitter } from "../../../../packages/pilot/src/logs/line-splitter.ts";
import { LogDirectory } from "../../../../packages/pilot/src/logs/log-directory.ts";
import { readSnapshot } from "../../../../packages/pilot/src/logs/log-reader.ts";
import { readSince } from "../../../../packages/pilot/src/logs/log-tail.ts";
import { formatBlock } from "../../../../packages/pilot/src/logs/record.ts";
import { ServiceStore } from "../../../../packages/pilot/src/services/store.ts";
import { Tasks } from "../../../../packages/pilot/src/tasks/tasks.ts";
import { decodeLabel, encodeLabel } from "../../../../packages/pilot/src/volume/disk-label.ts";
import { initialState, Ledger } from "../../../../packages/pilot/src/volume/ledger.ts";
import { ThinXmlReader } from "../../../../packages/pilot/src/volume/thin-delta.ts";
import { mutated, mutatedText, pieces } from "../mutate.ts";
import { ensure, type Subject, type Target, target } from "../target.ts";
import { parsed, parsedLater } from "../verdict.ts";

const RANGE = { offset: 1024, length: 65_536 };
const LABEL = encodeLabel({ state: "ready", layout: { volumeBytes: 1 << 30, state: RANGE, metadata: RANGE, data: RANGE } });

const labels = target<Buffer>({ name: "disk-labels", summary: "the first sector of a data disk", weight: 2 }, () => ({
  input: (random) => mutated(random, [LABEL]),
  run: (bytes) => {
    const verdict = parsed(
      () => decodeLabel(bytes),
      (label) =>
        ensure(label === undefined || encodeLabel(label).equals(bytes.subarray(0, LABEL.length)), () => "it would be written otherwise"),
      ["volume_unusable"],
    );
    return verdict;
  },
}));

const XML =
  '<superblock uuid="" time="1" transaction="2" data_block_size="128"><diff left="1" right="2"><different begin="0" length="5"/><left_only begin="9" length="1"/><same begin="10" length="2"/></diff>\n<device dev_id="1"><single_mapping origin_block="3" data_block="0" time="0"/><range_mapping origin_begin="5" data_begin="1" length="7" time="0"/></device></superblock>\n';

const tools = target<{ text: string; parts: Buffer[] }>(
  { name: "pool-tools", summary: "output of thin_delta, thin_dump and device-mapper", weight: 2 },
  () => ({
    input: (random) => {
      const text = mutatedText(random, [XML, "open=1 suspended=0 readonly=0 device=252:1\n0 2048 thin 100 200\n"]);
      return { text, parts: pieces(random, Buffer.from(text)) };
    },
    run: ({ text, parts }) => {
      parseDmStatus(text);
      const reader = new ThinXmlReader();
      return parsed(
        () => parts.flatMap((part) => reader.push(part.toString("utf8"))),
        (ranges) =>
          ensure(
            ranges.every(({ begin, length }) => begin >= 0 && length > 0),
            () => "a range of nothing",
          ),
        ["internal"],
      );
    },
  }),
);

/** A folder of its own for each input, made of the files that are given. */
abstract class Folder<T> implements Subject<T> {
  readonly #directory = mkdtempSync(join(tmpdir(), "hob-fuzz-"));
  #count = 0;

  abstract input: Subject<T>["input"];
  abstract run: Subject<T>["run"];

  with(files: Readonly<Record<string, string | Buffer>>): string {
    const path = join(this.#directory, String(this.#count++ % 64));
    rmSync(path, { recursive: true, force: true });
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(join(path, name, ".."), { recursive: true });
      writeFileSync(join(path, name), content);
    }
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

const record = (stream: number, text: string): Buffer => Buffer.concat([encodeHeader(stream, text.length), Buffer.from(text)]);
const SEGMENTS = [
  Buffer.concat([record(1, "hello\n"), record(2, "error\n"), record(1, "x".repeat(500))]),
  Buffer.concat([record(1, "more"), encodeHeader(3, 1), Buffer.of(7)]),
];
const SESSION = '{"command":"bash","workdir":"/","created":1,"tty":{"cols":80,"rows":24}}';

interface JournalFiles {
  segments: Buffer[];
  about: string;
  ids: string;
}

class JournalSubject extends Folder<JournalFiles> {
  input: Subject<JournalFiles>["input"] = (random) => ({
    segments: SEGMENTS.map((segment) => (random.chance(0.6) ? mutated(random, SEGMENTS) : segment)),
    about: random.chance(0.2) ? mutatedText(random, [SESSION]) : SESSION,
    ids: mutatedText(random, ['{"reserved":1000}']),
  });

  /** What a pilot finds it can go on with, and the next pilot finds the same and what was added. */
  run: Subject<JournalFiles>["run"] = async ({ segments: [first = Buffer.alloc(0), second = Buffer.alloc(0)], about, ids }) => {
    const path = this.with({
      "ids.json": ids,
      "7/session.json": about,
      "7/0000000000000000.journal": first,
      "7/0000000000000512.journal": second,
    });
    const found = (await new JournalStore(path).open(60_000)).find(({ id }) => id === "7");
    if (found === undefined) return "refused";
    const { journal } = found;
    const { end, exitCode } = journal;
    for (let at = journal.start; at < end; ) {
      const { records } = await journal.read(at);
      ensure(records.length > 0, () => `nothing at ${at}, though it ends at ${end}`);
      at = records.reduce((sum, { data, offset }) => Math.max(sum, offset + data.length), at);
    }
    if (exitCode === undefined) {
      journal.append(1, Buffer.alloc(40_000, "a"));
      await journal.finish(3);
    }
    const again = (await new JournalStore(path).open(60_000)).find(({ id }) => id === "7")?.journal;
    ensure(again?.end === (exitCode === undefined ? end + 40_000 : end), () => `it ended at ${end}, and is found to end at ${again?.end}`);
    ensure(again?.exitCode === (exitCode ?? 3), () => `its exit status is found as ${again?.exitCode}`);
    return "accepted";
  };
}

const LOG = Buffer.concat([
  formatBlock({ stream: "stdout", text: Buffer.from("one\ntwo\n"), timeMs: 1_700_000_000_000 }),
  formatBlock({ stream: "stderr", text: Buffer.from("three\n"), timeMs: 1_700_000_000_001 }),
]);

class LogSubject extends Folder<{ log: Buffer; output: Buffer[]; offset: number }> {
  input: Subject<{ log: Buffer; output: Buffer[]; offset: number }>["input"] = (random) => ({
    log: mutated(random, [LOG]),
    output: pieces(random, mutated(random, [Buffer.from("one\ntwo\n"), Buffer.alloc(40_000, "é")])),
    offset: random.pick([0, 1, 30, 2 ** 31, Number.MAX_SAFE_INTEGER]),
  });

  run: Subject<{ log: Buffer; output: Buffer[]; offset: number }>["run"] = async ({ log, output, offset }) => {
    let bytes = 0;
    const splitter = new LineSplitter((lines) => {
      bytes += lines.length;
      ensure(lines.at(-1) === 0x0a, () => "a line without an end");
      ensure(
        lines
          .toString("latin1")
          .split("\n")
          .every((line) => line.length <= LINE_BYTES_MAX),
        () => "a line that is too long",
      );
    });
    for (const chunk of output) splitter.push(chunk);
    splitter.end();
    ensure(bytes >= output.reduce((sum, { length }) => sum + length, 0), () => "output was lost");
    const path = this.with({ "web.log": log, "web.log.1": LOG });
    let lines = 0;
    for await (const { text } of readSnapshot(new LogDirectory(path).log("web").snapshot(), 10)) lines += text.length;
    let { cursor } = await readSince(path, 3, { web: { segment: "1.1", offset } });
    for (let turns = 0; ; turns++) {
      const more = await readSince(path, 3, cursor);
      if (JSON.stringify(more.cursor) === JSON.stringify(cursor)) break;
      ensure(turns < 10, () => "the cursor never comes to the end");
      cursor = more.cursor;
    }
    return lines === 0 ? "refused" : "accepted";
  };
}

const STATE_FILES = {
  "ledger.json": JSON.stringify({
    ...initialState,
    checkpoints: [
      { id: "v1", thin: 1, createTime: "2026-01-02T03:04:05Z", comment: "", history: [], automatic: false, reason: null, origin: null },
    ],
  }),
  "services/web.json": '{"version":1,"name":"web","stopped":false,"definition":{"cmd":"sleep","args":["1"],"needs":[],"http_port":80}}',
  "tasks.json": '{"version":1,"tasks":[{"name":"t","started_at":"2026-01-02T03:04:05Z","expires_at":"2099-01-02T03:04:05Z"}]}',
} as const;

class StateSubject extends Folder<Record<keyof typeof STATE_FILES, string>> {
  input: Subject<Record<keyof typeof STATE_FILES, string>>["input"] = (random) => {
    const texts = Object.values(STATE_FILES);
    return Object.fromEntries(
      Object.entries(STATE_FILES).map(([name, text]) => [name, mutatedText(random, random.chance(0.9) ? [text] : texts)]),
    ) as Record<keyof typeof STATE_FILES, string>;
  };

  run: Subject<Record<keyof typeof STATE_FILES, string>>["run"] = async (files) => {
    const path = this.with(files);
    const { services, damaged } = await new ServiceStore(join(path, "services")).load();
    ensure(services.length + damaged.length === readdirSync(join(path, "services")).length, () => "a definition vanished");
    const activity = new Activity();
    const tasks = new Tasks(join(path, "tasks.json"), activity);
    await tasks.load();
    tasks.list();
    return parsedLater(() => Ledger.open(join(path, "ledger.json")), undefined, ["volume_unusable"]);
  };
}

const about = (name: string, summary: string, weight: number) => ({ name, summary, weight });

export const diskTargets: readonly Target[] = [
  labels,
  tools,
  target(about("session-journals", "journals of sessions that a crash left", 0.3), () => new JournalSubject()),
  target(about("service-logs", "output of services, and their logs as a crash left them", 0.4), () => new LogSubject()),
  target(about("state-files", "the ledger of volumes, definitions of services, tasks", 0.4), () => new StateSubject()),
];
