import type { ExecSession } from "./exec.ts";

export interface ExecResult {
  exitCode: number;
  stdout: Buffer;
  stderr: Buffer;
}

/** Runs a session to its end, its output kept in memory. */
export async function collect(session: ExecSession, input?: string | Uint8Array): Promise<ExecResult> {
  const outputs = Promise.all([session.stdout.toArray(), session.stderr.toArray()]);
  session.stdin.end(input);
  const exitCode = await session.exit;
  const [stdout, stderr] = await outputs;
  return { exitCode, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr) };
}
