import { HobError } from "@hob/protocol";
import { DirectoryStore } from "../../src/store/directory-store.ts";

/** A process of its own for the tests of the directory store: `count PATH TIMES` or `write PATH ROUND`. */
const [mode, path = "", argument = ""] = process.argv.slice(2);
const store = await DirectoryStore.open(path);

async function increment(): Promise<void> {
  for (;;) {
    const present = await store.get("counter");
    const next = Buffer.from(String(Number(present?.data.toString()) + 1));
    try {
      await store.put("counter", next, { condition: { ifMatch: present?.etag ?? "" } });
      return;
    } catch (error) {
      if (!(error instanceof HobError) || error.code !== "precondition_failed") throw error;
    }
  }
}

if (mode === "count") {
  for (let done = 0; done < Number(argument); done++) await increment();
  store.close();
} else {
  for (let number = 0; ; number++) {
    const key = `round-${argument}/object-${number}`;
    const content = `${argument}.${number};`;
    await store.put(key, Buffer.alloc(200_000, content));
    process.stdout.write(`${key} ${content}\n`);
  }
}
