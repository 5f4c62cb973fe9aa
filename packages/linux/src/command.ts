import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { HobError } from "@hob/protocol";

/**
 * A program run as data: no shell string exists. Every command has a bound on its time.
 */
export interface Command {
  readonly argv: readonly [program: string, ...args: string[]];
  readonly stdin?: string | Uint8Array;
  readonly timeoutMs: number;
  readonly cwd?: string;
  /** the whole environment; default: this process's own */
  readonly env?: Readonly<Record<string, string>>;
  /**
   * standard output and error go to this file instead of the result; for programs that leave a process behind, which
   * would hold a pipe open for as long as it lives
   */
  readonly outputFile?: string;
  /** called with each full line of standard error as it arrives, for progress */
  readonly onStderrLine?: (line: string) => void;
}

export interface CommandResult {
  stdout: string;
  stderr: string;
}

/** The seam behind which all programs are started; tests replace it by a recorder. */
export interface CommandRunner {
  /** @throws HobError `missing_tool` | `command_failed` | `timeout` */
  run(command: Command, signal?: AbortSignal): Promise<CommandResult>;
}

/** Bytes of output kept per stream; what is beyond is dropped from the front, so that the end (the error) stays. */
const OUTPUT_KEPT_BYTES = 4 * 1024 * 1024;

export class SystemCommandRunner implements CommandRunner {
  run(command: Command, signal?: AbortSignal): Promise<CommandResult> {
    const [program, ...args] = command.argv;
    return new Promise((resolve, reject) => {
      const file = command.outputFile === undefined ? undefined : openSync(command.outputFile, "w", 0o600);
      const child = spawn(program, args, {
        stdio: [command.stdin === undefined ? "ignore" : "pipe", file ?? "pipe", file ?? "pipe"],
        cwd: command.cwd,
        env: command.env ?? process.env,
        ...(signal === undefined ? {} : { signal }),
      });
      if (file !== undefined) closeSync(file);
      const stdout = new TailBuffer();
      const stderr = new TailBuffer();
      const lines = command.onStderrLine === undefined ? undefined : lineSplitter(command.onStderrLine);
      let timedOut = false;
      const timer = setTimeout(() => {
        timedOut = true;
        child.kill("SIGKILL");
        // What it started may live on and hold the pipes open: the wait must not depend on that.
        child.stdout?.destroy();
        child.stderr?.destroy();
      }, command.timeoutMs);
      child.stdout?.on("data", (chunk: Buffer) => stdout.push(chunk));
      child.stderr?.on("data", (chunk: Buffer) => {
        stderr.push(chunk);
        lines?.(chunk);
      });
      // A program may exit without reading its input; the exit code tells what matters.
      child.stdin?.on("error", () => {});
      child.stdin?.end(command.stdin);
      child.once("error", (error: NodeJS.ErrnoException) => {
        clearTimeout(timer);
        reject(spawnError(program, error));
      });
      child.once("close", (code, killedBy) => {
        clearTimeout(timer);
        if (code === 0) return resolve({ stdout: stdout.text(), stderr: stderr.text() });
        const what = timedOut ? `no end after ${command.timeoutMs} ms` : code === null ? `killed by ${killedBy}` : `exit status ${code}`;
        const said = command.outputFile === undefined ? stderr.text() : readFileSync(command.outputFile, "utf8");
        reject(endError(program, timedOut ? "timeout" : "command_failed", what, said, code));
      });
    });
  }
}

function spawnError(program: string, error: NodeJS.ErrnoException): HobError {
  if (error.code === "ENOENT") {
    return new HobError("missing_tool", `run ${program}: not found`, { hint: "'hob doctor' lists the packages to install", cause: error });
  }
  return new HobError("command_failed", `run ${program}: ${error.message}`, { cause: error });
}

function endError(program: string, kind: "timeout" | "command_failed", what: string, said: string, exitStatus: number | null): HobError {
  const tail = lastLines(said, 6);
  return new HobError(kind, `run ${program}: ${what}${tail === "" ? "" : `: ${tail}`}`, {
    details: { program, ...(exitStatus === null ? {} : { exit_status: exitStatus }) },
  });
}

class TailBuffer {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    while (this.#bytes > OUTPUT_KEPT_BYTES && this.#chunks.length > 1) this.#bytes -= this.#chunks.shift()?.length ?? 0;
  }

  text(): string {
    return Buffer.concat(this.#chunks).toString("utf8");
  }
}

function lineSplitter(onLine: (line: string) => void): (chunk: Buffer) => void {
  let rest = "";
  return (chunk) => {
    const lines = (rest + chunk.toString("utf8")).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  };
}

export function lastLines(text: string, count: number): string {
  return text.trimEnd().split("\n").slice(-count).join("\n");
}
