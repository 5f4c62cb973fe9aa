import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { HobError } from "@hob/protocol";
import { parseDmStatus } from "../src/helper/device-mapper.ts";
import { encodeFrame, ItemWriter } from "../src/helper/frames.ts";
import { REQUEST, TAG } from "../src/helper/wire.ts";
import { parseUsage } from "../src/volume/thin-pool.ts";
import { type RunningHelper, startHelper } from "./support/helper.ts";

const errno = (expected: number) => (error: unknown) => error instanceof HobError && error.details.errno === expected;
const [EINVAL, ENOENT] = [22, 2];

let helper: RunningHelper;
let directory = "";

before(async () => {
  helper = await startHelper();
  directory = mkdtempSync(join(tmpdir(), "hob-mounts-"));
});
after(async () => {
  await helper[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

const place = (name: string): string => {
  const path = join(directory, name);
  mkdirSync(path);
  return path;
};
const mountLine = (path: string) =>
  readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .find((line) => line.split(" ")[1] === path);

describe("mounts", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  test("a mount moves with what is in it, and goes", async () => {
    const [from, to] = [place("from"), place("to")];
    await helper.client.idmapMount({ fsType: "tmpfs", source: "tmpfs", target: from, attributes: ["noatime"] });
    assert.match(mountLine(from) ?? "", /noatime/);
    writeFileSync(join(from, "file"), "x");
    await helper.client.moveMount(from, to);
    assert.equal(mountLine(from), undefined);
    assert.ok(existsSync(join(to, "file")));
    await helper.client.unmount(to);
    assert.equal(mountLine(to), undefined);
  });

  test("a busy mount is refused, unless it may go lazily", async () => {
    const busy = place("busy");
    await helper.client.idmapMount({ fsType: "tmpfs", source: "tmpfs", target: busy });
    const socket = connect(helper.socketPath);
    const child = await helper.client.exec({ argv: ["sleep", "60"], env: { PATH: "/usr/bin:/bin" }, cwd: busy, uid: 0, gid: 0 });
    await assert.rejects(helper.client.unmount(busy), errno(16));
    await helper.client.unmount(busy, { lazy: true });
    assert.equal(mountLine(busy), undefined);
    child.close();
    socket.destroy();
  });

  test("what is not mounted or not there is an error", async () => {
    const plain = place("plain");
    await assert.rejects(helper.client.unmount(plain), errno(EINVAL));
    await assert.rejects(helper.client.unmount(join(directory, "none")), errno(ENOENT));
    await assert.rejects(helper.client.moveMount(plain, join(directory, "none")), errno(ENOENT));
  });
});

describe("device-mapper", () => {
  const send = (items: ItemWriter): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect(helper.socketPath);
      let answer = Buffer.alloc(0);
      socket.on("data", (chunk) => {
        answer = Buffer.concat([answer, chunk]);
      });
      socket.once("end", () => {
        socket.destroy();
        resolve(answer.toString("latin1", 9));
      });
      socket.once("error", reject);
      socket.end(encodeFrame(REQUEST.deviceMapper, items.finish()));
    });

  test("requests that make no sense are refused before the kernel sees them", async () => {
    const op = (number: number) => new ItemWriter().u32(TAG.dmOp, number);
    for (const items of [
      new ItemWriter(),
      op(0),
      op(11),
      op(1).text(TAG.dmName, "no-table"),
      op(1).text(TAG.dmName, "x").bytes(TAG.dmTarget, Buffer.alloc(16)),
      op(1)
        .text(TAG.dmName, "x")
        .bytes(TAG.dmTarget, Buffer.concat([Buffer.alloc(16), Buffer.from("\0")])),
      op(1)
        .text(TAG.dmName, "x")
        .bytes(TAG.dmTarget, Buffer.concat([Buffer.alloc(16), Buffer.from(`${"t".repeat(16)} p\0`)])),
      op(7).text(TAG.dmName, "../x"),
      op(7).text(TAG.dmName, "x".repeat(128)),
      op(6).text(TAG.dmName, "no-message"),
      op(9).text(TAG.dmName, "pool").text(TAG.dmMessage, "create_snap 1 0").text(TAG.dmOrigin, "thin-0"),
      op(10).text(TAG.dmName, "no-range"),
      op(10).text(TAG.dmName, "x").bytes(TAG.dmRange, Buffer.alloc(8)),
      op(10).text(TAG.dmName, "x").bytes(TAG.dmRange, Buffer.alloc(16)),
      op(10)
        .text(TAG.dmName, "x")
        .bytes(TAG.dmRange, Buffer.concat([Buffer.alloc(8), Buffer.alloc(8, 1)])),
    ]) {
      assert.match(await send(items), /malformed/);
    }
    assert.equal(helper.stderr(), "");
  });

  test("a machine without it is an error like any other", { skip: existsSync("/dev/mapper/control") ? "it is there" : false }, async () => {
    await assert.rejects(helper.client.dmList(), errno(ENOENT));
  });

  test("status lines are taken apart", () => {
    const text =
      "open=2 suspended=0 readonly=1 device=253:4\n0 209715200 thin-pool 1 130/1048576 42/4931584 - rw discard_passdown error_if_no_space - 1024 \n";
    const status = parseDmStatus(text);
    assert.deepEqual(
      { ...status, targets: status.targets.length },
      { openCount: 2, suspended: false, readOnly: true, device: "253:4", targets: 1 },
    );
    const usage = { usedBlocks: 42, totalBlocks: 4931584, usedMetadataBlocks: 130, totalMetadataBlocks: 1048576, mode: "rw" };
    assert.deepEqual(parseUsage(status), usage);
    assert.equal(parseUsage({ ...status, targets: [{ type: "thin-pool", status: "Fail" }] }).mode, "failed");
  });
});
