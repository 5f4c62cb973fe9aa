import { once } from "node:events";
import { ExecError, type ExecOptions, type Sprite, type SpriteCommand } from "@fly/sprites";

export interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a program; a failing one is a result, not an exception. */
export async function run(sprite: Sprite, file: string, args: readonly string[] = [], options: ExecOptions = {}): Promise<Result> {
  const ended = await sprite.execFile(file, [...args], options).catch((error: unknown) => {
    if (error instanceof ExecError) return error;
    throw error;
  });
  return { code: ended.exitCode, stdout: String(ended.stdout), stderr: String(ended.stderr) };
}

export const shell = (sprite: Sprite, script: string, options: ExecOptions = {}): Promise<Result> =>
  run(sprite, "sh", ["-c", script], options);

/** The same as root of the sprite. */
export const rootShell = (sprite: Sprite, script: string): Promise<Result> => run(sprite, "sudo", ["sh", "-c", script]);

/** Standard output of a script that must succeed, without the last newline. @throws with all it said when it fails */
export async function outputOf(sprite: Sprite, script: string): Promise<string> {
  const { code, stdout, stderr } = await shell(sprite, script);
  if (code !== 0) throw new Error(`${script}: exit status ${code}\n${stdout}${stderr}`);
  return stdout.replace(/\n$/, "");
}

/** A started command whose output is kept. */
export interface Watched {
  readonly command: SpriteCommand;
  readonly exited: Promise<number>;
  stdout(): Buffer;
  stderr(): Buffer;
}

/** Starts a command and resolves once the sprite has accepted it. */
export async function start(sprite: Sprite, file: string, args: readonly string[] = [], options: ExecOptions = {}): Promise<Watched> {
  const command = sprite.spawn(file, [...args], options);
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  command.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  command.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  const exited = once(command, "exit").then(([code]) => code as number);
  exited.catch(() => {});
  await once(command, "spawn");
  return { command, exited, stdout: () => Buffer.concat(stdout), stderr: () => Buffer.concat(stderr) };
}
