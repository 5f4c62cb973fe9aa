import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { SpriteFiles } from "@hob/client";
import { HobError } from "@hob/protocol/errors.ts";

/**
 * Copies what `hob exec --file` names, in order.
 * @param workingDir folder that relative destinations begin in; undefined: the home of the sprite's user
 * @throws HobError `usage` if an argument is none, or its source no file of this machine
 */
export async function uploadBeforeExec(files: SpriteFiles, pairs: readonly string[], workingDir: string | undefined): Promise<void> {
  for (const pair of pairs) {
    const at = pair.lastIndexOf(":");
    const [source, destination] = [pair.slice(0, at), pair.slice(at + 1)];
    if (at < 1 || destination === "")
      throw new HobError("usage", `--file ${pair}: not SOURCE:DESTINATION`, { hint: "such as --file app.py:/tmp/app.py" });
    const info = await stat(source).catch((cause: NodeJS.ErrnoException) => {
      throw new HobError("usage", `--file ${source}: ${cause.code === "ENOENT" ? "no such file" : cause.message}`, { cause });
    });
    if (!info.isFile()) throw new HobError("usage", `--file ${source}: not a file`, { hint: "'hob cp -r' copies folders" });
    await files.write(destination, createReadStream(source), { workingDir, mode: info.mode & 0o777, parents: true });
  }
}
