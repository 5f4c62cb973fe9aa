import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { LOG_PULL_LIMITS, type LogCursor, PILOT_ROUTES } from "@hob/protocol";
import fc from "fast-check";
import { logRoutes } from "../src/host-api/log-routes.ts";
import { LogDirectory } from "../src/logs/log-directory.ts";

class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "hob-tail-"));
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

const write = (logs: LogDirectory, service: string, text: string) =>
  logs.log(service).append({ stream: "stdout", text: Buffer.from(`${text}\n`), timeMs: 1_780_420_274_555 });

test("whatever is written between which pulls: each line comes once, in order", async () => {
  const step = fc.oneof(
    fc.tuple(fc.constantFrom("a", "b", "c"), fc.integer({ min: 1, max: 30 })),
    fc.constant("pull" as const),
    fc.constant("restart" as const),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), fc.integer({ min: 400, max: 2_000 }), async (steps, fileBytes) => {
      using folder = new Folder();
      let logs = new LogDirectory(folder.path, { fileBytes, files: 40 });
      const written: Record<string, string[]> = {};
      const seen: Record<string, string[]> = {};
      const add = (to: Record<string, string[]>, service: string, lines: string[]) => {
        to[service] = [...(to[service] ?? []), ...lines];
      };
      let cursor: LogCursor = {};
      let count = 0;
      const pull = async () => {
        const { blocks, cursor: next } = await logs.readSince(cursor);
        cursor = next;
        for (const { service, text } of blocks) add(seen, service, text.split("\n").slice(0, -1));
      };
      for (const one of steps) {
        if (one === "pull") await pull();
        else if (one === "restart") {
          await logs.close();
          logs = new LogDirectory(folder.path, { fileBytes, files: 40 });
        } else {
          const [service, lines] = one;
          for (let i = 0; i < lines; i++) {
            const text = `line ${count++}`;
            write(logs, service, text);
            add(written, service, [text]);
          }
        }
      }
      await logs.close();
      await pull();
      assert.deepEqual(seen, written);
      await pull();
      assert.deepEqual(seen, written, "nothing twice");
    }),
    { numRuns: 30 },
  );
});

test("an answer is bounded, and a loud service does not silence the others", async () => {
  using folder = new Folder();
  const logs = new LogDirectory(folder.path);
  for (let i = 0; i < 2_000; i++) write(logs, "loud", "x".repeat(1_000));
  write(logs, "quiet", "hello");
  await logs.close();
  let cursor: LogCursor = {};
  let lines = 0;
  for (let pulls = 0; lines < 2_001; pulls++) {
    const answer = await logs.readSince(cursor);
    const bytes = answer.blocks.reduce((sum, { text }) => sum + text.length, 0);
    assert.ok(bytes > 0 && bytes <= LOG_PULL_LIMITS.bytes);
    if (pulls === 0) assert.ok(answer.blocks.some(({ service }) => service === "quiet"));
    lines += answer.blocks.reduce((sum, { text }) => sum + text.split("\n").length - 1, 0);
    cursor = answer.cursor;
  }
  assert.equal(lines, 2_001);
});

test("what was rotated away is left out, and what is there comes", async () => {
  using folder = new Folder();
  const logs = new LogDirectory(folder.path, { fileBytes: 500, files: 2 });
  write(logs, "a", "first");
  await logs.close();
  const { cursor } = await logs.readSince({});
  for (let i = 0; i < 100; i++) write(logs, "a", `line ${i}`);
  await logs.close();
  const { blocks } = await logs.readSince(cursor);
  const text = blocks.map((block) => block.text).join("");
  assert.ok(text.endsWith("line 99\n") && !text.includes("first"));
});

test("a pull waits for news, and no longer than it was told", async () => {
  using folder = new Folder();
  const logs = new LogDirectory(folder.path);
  await logs.prepare();
  const app = logRoutes(logs);
  const pull = async (body: unknown) => app.request(PILOT_ROUTES.logs, { method: "POST", body: JSON.stringify(body) });
  assert.deepEqual(await (await pull({ cursor: {}, waitMs: 10 })).json(), { blocks: [], cursor: {} });
  const waiting = pull({ cursor: {}, waitMs: 30_000 });
  write(logs, "a", "one");
  write(logs, "a", "two");
  const { blocks } = (await (await waiting).json()) as { blocks: { text: string }[] };
  assert.equal(blocks.map(({ text }) => text).join(""), "one\ntwo\n");
  await logs.close();
});
