import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { type IPty, spawn as spawnPty } from "@lydell/node-pty";
import type { WebSocket } from "ws";

/** Commands that make the server misbehave instead of running something. */
const MISBEHAVIOUR: Readonly<Record<string, (socket: WebSocket) => void>> = {
  "test:drop": (socket) => setTimeout(() => socket.terminate(), 50),
  "test:close": (socket) => socket.close(1000),
  "test:close-1011": (socket) => socket.close(1011, "the pilot went away"),
  "test:partial": (socket) => socket.send(Buffer.from("\x01half an answer"), () => socket.terminate()),
  "test:bad-exit": (socket) => socket.send(Buffer.from([3])),
  "test:no-close": (socket) => socket.send(Buffer.from([3, 5])),
  "test:text-exit": (socket) => socket.send(JSON.stringify({ type: "exit", exit_code: 9 })),
  "test:junk": (socket) => {
    socket.send("not json");
    socket.send(JSON.stringify({ type: "port_opened", port: 1 }));
    socket.send(Buffer.from([9, 9, 9]));
    socket.send(Buffer.alloc(0));
    socket.send(Buffer.from([3, 4]));
  },
};

/** One exec session as the wire description has it, section 5. */
export function serveExec(socket: WebSocket, query: URLSearchParams, seenFrames: string[]): void {
  const argv = query.getAll("cmd");
  const tty = query.get("tty") === "true";
  socket.on("error", () => {});
  socket.send(
    JSON.stringify({ type: "session_info", session_id: "1", command: argv[0], created: 1, cols: 0, rows: 0, is_owner: true, tty }),
  );
  const misbehave = MISBEHAVIOUR[argv[0] ?? ""];
  if (misbehave !== undefined) {
    misbehave(socket);
    return;
  }
  const env = { ...process.env, ...Object.fromEntries(query.getAll("env").map((one) => one.split(/=(.*)/s).slice(0, 2))) };
  const cwd = query.get("dir") ?? process.cwd();
  if (tty) servePty(socket, argv, { cwd, env, cols: Number(query.get("cols")), rows: Number(query.get("rows")) }, seenFrames);
  else servePipes(socket, argv, { cwd, env, stdin: query.get("stdin") === "true" }, seenFrames);
}

function servePipes(
  socket: WebSocket,
  argv: string[],
  options: { cwd: string; env: NodeJS.ProcessEnv; stdin: boolean },
  seenFrames: string[],
): void {
  const [program = "bash", ...args] = argv;
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: options.env,
    stdio: [options.stdin ? "pipe" : "ignore", "pipe", "pipe"],
    detached: true,
  });
  child.stdin?.on("error", () => {});
  relay(child.stdout, 1, socket);
  relay(child.stderr, 2, socket);
  socket.on("message", (data: Buffer, isBinary) => {
    if (!isBinary)
      handleText(
        data,
        seenFrames,
        (signal) => signalGroup(child, signal),
        () => {},
      );
    else if (data[0] === 0 && child.stdin?.write(data.subarray(1)) === false) {
      socket.pause();
      child.stdin.once("drain", () => socket.resume());
    } else if (data[0] === 4) child.stdin?.end();
  });
  child.once("error", () => finish(socket, 127, false));
  child.once("close", (code, signal) => {
    if (code !== null || signal !== null) finish(socket, code ?? 128 + constants.signals[signal as NodeJS.Signals], false);
  });
  socket.once("close", () => signalGroup(child, "SIGKILL"));
}

function relay(from: NodeJS.ReadableStream | null, stream: number, socket: WebSocket): void {
  from?.on("data", (chunk: Buffer) => {
    socket.send(Buffer.concat([Buffer.from([stream]), chunk]), () => from.resume());
    if (socket.bufferedAmount > 1024 * 1024) from.pause();
  });
}

function servePty(
  socket: WebSocket,
  argv: string[],
  options: { cwd: string; env: NodeJS.ProcessEnv; cols: number; rows: number },
  seenFrames: string[],
): void {
  const [program = "bash", ...args] = argv;
  const pty: IPty = spawnPty(program, args, { ...options, name: options.env.TERM ?? "dumb" });
  let exited = false;
  pty.onData((data) => socket.send(Buffer.from(data, "utf8")));
  pty.onExit(({ exitCode, signal }) => {
    exited = true;
    // The last output comes from another thread of the PTY library.
    setTimeout(() => finish(socket, signal ? 128 + signal : exitCode, true), 50);
  });
  socket.on("message", (data: Buffer, isBinary) => {
    if (isBinary) pty.write(data.toString("utf8"));
    else
      handleText(
        data,
        seenFrames,
        (signal) => pty.kill(signal),
        (cols, rows) => pty.resize(cols, rows),
      );
  });
  socket.once("close", () => {
    if (!exited) pty.kill("SIGKILL");
  });
}

function handleText(
  data: Buffer,
  seenFrames: string[],
  onSignal: (signal: NodeJS.Signals) => void,
  onResize: (cols: number, rows: number) => void,
): void {
  seenFrames.push(data.toString("utf8"));
  const frame = JSON.parse(data.toString("utf8")) as { type: string; signal: NodeJS.Signals; cols: number; rows: number };
  if (frame.type === "signal") onSignal(frame.signal);
  if (frame.type === "resize") onResize(frame.cols, frame.rows);
}

function finish(socket: WebSocket, status: number, tty: boolean): void {
  if (!tty) socket.send(Buffer.from([3, status]));
  socket.send(JSON.stringify({ type: "exit", exit_code: status, code: status }));
  socket.close(tty && status !== 0 ? 4000 + status : 1000);
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // It ended between the check and the signal.
  }
}
