import assert from "node:assert/strict";
import { test } from "node:test";
import { HobError } from "@hob/protocol";
import { readExactly } from "../src/read-exactly.ts";

/** A device of these bytes that gives a few at a time, as read(2) may. */
const deviceOf = (content: string, most: number) => {
  const read = async (target: Buffer, at: number, length: number, position: number) => {
    const part = Buffer.from(content).subarray(position, position + Math.min(length, most));
    return { bytesRead: part.copy(target, at), buffer: target };
  };
  return { read } as unknown as Parameters<typeof readExactly>[0];
};

test("what comes in parts is put together, and what is missing at the end is no zeros", async () => {
  assert.equal((await readExactly(deviceOf("0123456789", 3), 2, 8)).toString(), "23456789");
  assert.equal((await readExactly(deviceOf("0123456789", 3), 2, 0)).length, 0);
  await assert.rejects(
    readExactly(deviceOf("0123456789", 3), 2, 9),
    (error) => error instanceof HobError && error.code === "volume_unusable" && error.message.includes("after 8"),
  );
});
