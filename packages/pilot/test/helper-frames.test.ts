import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { encodeExec } from "../src/helper/exec-request.ts";
import { decodeItems, encodeFrame, type Frame, FrameDecoder, ItemWriter } from "../src/helper/frames.ts";
import { HELPER_LIMITS, TAG } from "../src/helper/wire.ts";

const frames = fc.array(
  fc.record({ type: fc.integer({ min: 0, max: 255 }), payload: fc.uint8Array({ maxLength: 300 }) }, { noNullPrototype: true }),
  { maxLength: 20 },
);

function decodeInPieces(bytes: Buffer, cuts: number[]): Frame[] {
  const decoder = new FrameDecoder();
  const decoded: Frame[] = [];
  const edges = [...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  let at = 0;
  for (const edge of edges) {
    decoder.push(bytes.subarray(at, edge));
    at = edge;
    for (let frame = decoder.next(); frame !== undefined; frame = decoder.next()) decoded.push(frame);
  }
  return decoded;
}

test("frames survive any cutting of the stream", () => {
  fc.assert(
    fc.property(frames, fc.array(fc.nat()), (sent, cuts) => {
      const bytes = Buffer.concat(sent.map(({ type, payload }) => encodeFrame(type, payload)));
      const got = decodeInPieces(bytes, cuts).map(({ type, payload }) => ({ type, payload: new Uint8Array(payload) }));
      assert.deepEqual(got, sent);
    }),
  );
});

test("any bytes are either frames or refused, and never read beyond", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
      const decoder = new FrameDecoder();
      decoder.push(Buffer.from(noise));
      try {
        let total = 0;
        for (let frame = decoder.next(); frame !== undefined; frame = decoder.next()) total += 5 + frame.payload.length;
        assert.ok(total <= noise.length);
      } catch (error) {
        assert.equal((error as { code?: string }).code, "helper_failed");
      }
    }),
  );
});

test("items survive encoding", () => {
  const items = fc.array(
    fc.record({ tag: fc.integer({ min: 0, max: 255 }), value: fc.uint8Array({ maxLength: 100 }) }, { noNullPrototype: true }),
  );
  fc.assert(
    fc.property(items, (sent) => {
      const writer = new ItemWriter();
      for (const { tag, value } of sent) writer.bytes(tag, value);
      const got = decodeItems(writer.finish()).map(({ tag, value }) => ({ tag, value: new Uint8Array(value) }));
      assert.deepEqual(got, sent);
    }),
  );
});

test("an exec request carries every argument and variable unchanged", () => {
  const word = fc.string({ unit: "grapheme" }).filter((text) => !text.includes("\0"));
  fc.assert(
    fc.property(fc.array(word, { minLength: 1 }), fc.dictionary(word, word), (argv, env) => {
      const items = decodeItems(encodeExec({ argv, env, cwd: "/", uid: 1, gid: 2 }).subarray(5));
      const texts = (tag: number) =>
        items.filter((item) => item.tag === tag).map(({ value }) => value.toString("utf8", 0, value.length - 1));
      assert.deepEqual(texts(TAG.arg), argv);
      assert.deepEqual(
        texts(TAG.env),
        Object.entries(env).map(([name, value]) => `${name}=${value}`),
      );
    }),
  );
});

test("what cannot be expressed is refused", () => {
  const base = { env: {}, cwd: "/", uid: 0, gid: 0 };
  for (const argv of [["a\0b"], Array.from({ length: HELPER_LIMITS.strings + 1 }, () => "x"), ["y".repeat(HELPER_LIMITS.requestBytes)]]) {
    assert.throws(() => encodeExec({ ...base, argv }), { code: "invalid_request" });
  }
});
