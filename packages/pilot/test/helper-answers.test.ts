import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { encodeFrame } from "../src/helper/frames.ts";
import { type FileRequest, HelperClient } from "../src/helper/index.ts";
import { SERVER_FRAME } from "../src/helper/wire.ts";

/** A helper that answers whatever it is asked with these bytes and ends, as one does that is killed. */
async function answering(answer: Buffer): Promise<{ client: HelperClient } & AsyncDisposable> {
  const directory = mkdtempSync(join(tmpdir(), "hob-answers-"));
  const path = join(directory, "helper.sock");
  const server = createServer((socket) => void socket.on("error", () => {}).once("data", () => socket.end(answer)));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    client: new HelperClient(path),
    async [Symbol.asyncDispose]() {
      await new Promise((resolve) => server.close(resolve));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

const request = (operation: FileRequest["operation"]): FileRequest => ({
  operation,
  path: "/a",
  user: { name: "sprite", uid: 1000, gid: 1000 },
  target: { initPid: 1, cgroupDir: "", seccompFile: "" },
});

describe("answers of a helper's process that runs as the sprite's user", { timeout: 20_000 }, () => {
  test("records that are not whole are errors of the helper", async () => {
    for (const type of [SERVER_FRAME.entries, SERVER_FRAME.done, SERVER_FRAME.fileError, SERVER_FRAME.error]) {
      await using helper = await answering(encodeFrame(type, Buffer.of(1)));
      const stream = await helper.client.files(request("list"));
      await assert.rejects(async () => void (await stream.entries().next()), { code: "helper_failed" });
      stream.close();
    }
    await using info = await answering(encodeFrame(SERVER_FRAME.fileInfo, Buffer.alloc(20)));
    const read = await info.client.files(request("read"));
    await assert.rejects(read.info(), { code: "helper_failed" });
    read.close();
    await using events = await answering(
      Buffer.concat([encodeFrame(SERVER_FRAME.ok), encodeFrame(SERVER_FRAME.events, Buffer.of(0x63, 0, 9))]),
    );
    const watch = await events.client.files(request("watch"));
    await watch.ready();
    await assert.rejects(async () => void (await watch.events().next()), { code: "helper_failed" });
    watch.close();
    await using attribute = await answering(
      Buffer.concat([encodeFrame(SERVER_FRAME.ok), encodeFrame(SERVER_FRAME.attribute, Buffer.of(9, 1, 0, 0, 0, 0x61))]),
    );
    using comparison = await attribute.client.compare();
    await assert.rejects(comparison.attributes(Buffer.from("/a"), Buffer.from("/b")), { code: "helper_failed" });
    await using started = await answering(encodeFrame(SERVER_FRAME.started));
    await assert.rejects(started.client.exec({ argv: ["true"], env: {}, cwd: "/", uid: 1, gid: 1 }), { code: "helper_failed" });
  });

  test("a helper that ends without an answer is noticed at once, also where the connection may stay half open", async () => {
    await using helper = await answering(Buffer.alloc(0));
    await assert.rejects(helper.client.connectInside(1, [{ address: "127.0.0.1", port: 1 }], 15_000), { code: "helper_unreachable" });
  });
});
