import { acquire } from "../../src/ownership/acquire.ts";
import { DirectoryStore } from "../../src/store/directory-store.ts";
import { Uploader } from "../../src/upload/uploader.ts";
import { changesOf } from "./blocks.ts";

/**
 * A process of its own that uploads and checkpoints until it is killed: `PATH ROUND`. It says what was acknowledged, one
 * checkpoint a line: its id and the changes that led to it from the one before, as JSON.
 */
const [path = "", round = "0"] = process.argv.slice(2);
const store = await DirectoryStore.open(path);
const owned = await acquire({ store, org: "org", sprite: "s1", owner: "host", initial: { volumeBytes: 2 ** 30 } });
const uploader = new Uploader({ store, org: "org", packTargetBytes: 300_000 });
process.stdout.write(`${JSON.stringify({ id: "start", root: owned.head.root })}\n`);
for (let number = owned.head.lastCheckpoint + 1; ; number++) {
  const seed = Number(round) * 1000 + number * 2 + 1;
  const changes = Array.from({ length: 12 }, (_, at): [number, number] => [(at * 37 + number * 11) % 500, at === 5 ? 0 : seed + at]);
  const { root, storedBlocks } = await uploader.upload(owned.head.root, changesOf(changes));
  const id = `v${number}`;
  const checkpoint = { id, comment: "", createdAt: new Date().toISOString(), root, storedBlocks, automatic: false };
  await owned.addCheckpoint(checkpoint, { root, storedBlocks, parent: id });
  process.stdout.write(`${JSON.stringify({ id, changes })}\n`);
}
