/** Fills a cache until it is killed. */
import { sha256 } from "../../src/format/hash.ts";
import { BLOCK_BYTES } from "../../src/format/limits.ts";
import { DiskCache } from "../../src/read/disk-cache.ts";
import { blockOf } from "./blocks.ts";

const [directory = "", round = "0"] = process.argv.slice(2);
const cache = new DiskCache({ directory, maxBytes: 16 * BLOCK_BYTES });
for (let step = 0; ; step++) {
  const seed = 1 + ((step * 7 + Number(round)) % 40);
  await cache.put(sha256(blockOf(seed)), blockOf(seed));
  // Killed at another place of the work each time.
  if (step === 20 + Number(round)) process.send?.("filled");
}
