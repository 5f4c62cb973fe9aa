import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import fc from "fast-check";
import { PrefixedFrameReader, PrefixedFrames } from "../src/http-exec.ts";

/** What is written to a response, as one piece. */
function written(write: (frames: PrefixedFrames) => void): Buffer {
  const parts: Buffer[] = [];
  const response = Object.assign(new EventEmitter(), { write: (part: Buffer) => parts.push(part), writableLength: 0 });
  write(new PrefixedFrames(response as unknown as ServerResponse, () => {}));
  return Buffer.concat(parts);
}

test("frames come back whole, wherever the bytes are cut", () => {
  const frame = fc.tuple(fc.integer({ min: 1, max: 3 }), fc.uint8Array({ maxLength: 40 }));
  fc.assert(
    fc.property(fc.array(frame), fc.array(fc.nat(500)), (frames, cuts) => {
      const bytes = written((sink) => {
        for (const [stream, data] of frames) sink.push(stream, Buffer.from(data));
      });
      const got: [number, string][] = [];
      const reader = new PrefixedFrameReader((stream, data) => got.push([stream, data.toString("hex")]));
      const ends = [...cuts.filter((cut) => cut < bytes.length).sort((a, b) => a - b), bytes.length];
      let from = 0;
      for (const end of ends) {
        reader.push(bytes.subarray(from, end));
        from = end;
      }
      assert.deepEqual(
        got,
        frames.map(([stream, data]) => [stream, Buffer.from(data).toString("hex")]),
      );
    }),
  );
});

test("a length that no frame has is refused", () => {
  for (const length of [0, 0xffff_ffff]) {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32BE(length);
    assert.throws(() => new PrefixedFrameReader(() => {}).push(bytes), RangeError);
  }
});
