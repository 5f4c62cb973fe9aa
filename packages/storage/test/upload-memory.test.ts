import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { inBatches } from "../src/upload/batches.ts";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

describe("batches of a source", () => {
  it("are not held after they were used", async () => {
    const alive: WeakRef<object>[] = [];
    async function* source(): AsyncGenerator<object> {
      for (let number = 0; number < 1000; number++) {
        const item = { number };
        alive.push(new WeakRef(item));
        yield item;
      }
    }
    let seen = 0;
    for await (const batch of inBatches(source(), 10, new AbortController().signal)) {
      seen += batch.length;
      if (seen < 990) continue;
      // A WeakRef keeps its target until the turn in which it was made is over.
      await new Promise(setImmediate);
      collect();
      const held = alive.filter((one) => one.deref() !== undefined).length;
      assert.ok(held <= 50, `${held} items are held`);
      break;
    }
    assert.equal(seen, 990);
  });
});
