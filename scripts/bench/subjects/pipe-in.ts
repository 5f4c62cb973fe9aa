import { once } from "node:events";
import type { Readable } from "node:stream";
import type { Sprite } from "@fly/sprites";

/** Runs a shell command in a sprite with a stream as its standard input. @throws when it does not end with 0 */
export async function pipeIn(sprite: Sprite, script: string, input: Readable): Promise<void> {
  const command = sprite.spawn("sh", ["-c", script]);
  // The SDK takes no input before the connection stands.
  await once(command, "spawn");
  input.pipe(command.stdin);
  const code = await command.wait();
  if (code !== 0) throw new Error(`${script}: ended with ${code}`);
}
