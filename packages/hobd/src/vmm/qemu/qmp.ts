import { createConnection, type Socket } from "node:net";
import { HobError } from "@hob/protocol";

/**
 * Client of the QEMU Machine Protocol (docs/interop/qmp-spec.rst of QEMU): one JSON object a line over a unix socket.
 * QEMU answers in order, so replies need no ids.
 */
export class QmpClient {
  readonly #socket: Socket;
  readonly #waiting: { command: string; resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];
  #rest = "";
  /** called with the name of each asynchronous event, qapi/run-state.json and others */
  onEvent: (name: string) => void = () => {};
  #greeted: () => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#receive(text));
    socket.on("error", () => {});
    socket.on("close", () => this.#failAll());
  }

  /** Connects, retrying while QEMU has not made its socket yet, and leaves the negotiation mode. */
  static async connect(path: string, timeoutMs: number): Promise<QmpClient> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      let client: QmpClient | undefined;
      try {
        client = new QmpClient(await open(path));
        await client.#negotiate(deadline);
        return client;
      } catch (cause) {
        client?.close();
        if (performance.now() >= deadline)
          throw new HobError("vm_failed", `connect to the VMM at ${path}: no answer in ${timeoutMs} ms`, { cause });
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
  }

  /** Runs one command. @throws HobError `vm_failed` with QEMU's own words */
  execute(command: string, args: Record<string, unknown> = {}, timeoutMs = 10_000): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new HobError("vm_failed", `${command}: no answer in ${timeoutMs} ms`)), timeoutMs);
      const settle =
        <T>(then: (value: T) => void) =>
        (value: T) => {
          clearTimeout(timer);
          then(value);
        };
      this.#waiting.push({ command, resolve: settle(resolve), reject: settle(reject) });
      // What is written after the end of a connection fails without a word.
      if (this.#socket.destroyed) this.#failAll();
      else this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  async #negotiate(deadline: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("no greeting")), Math.max(1, deadline - performance.now()));
      this.#greeted = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    await this.execute("qmp_capabilities", {}, Math.max(1, deadline - performance.now()));
  }

  #receive(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines.filter((one) => one.trim() !== "")) {
      const message = parseMessage(line);
      if (message === undefined) return void this.#socket.destroy();
      this.#handle(message);
    }
  }

  #handle(message: QmpMessage): void {
    if (message.QMP !== undefined) this.#greeted();
    if (message.event !== undefined) this.onEvent(String(message.event));
    if (message.QMP !== undefined || message.event !== undefined) return;
    const waiting = this.#waiting.shift();
    if (message.error === undefined) waiting?.resolve(message.return);
    else waiting?.reject(new HobError("vm_failed", `${waiting.command}: ${message.error?.desc ?? "it failed"}`));
  }

  #failAll(): void {
    for (const { command, reject } of this.#waiting.splice(0)) reject(new HobError("vm_failed", `${command}: the VMM has ended`));
  }
}

interface QmpMessage {
  QMP?: unknown;
  event?: string;
  return?: unknown;
  error?: { desc?: string } | null;
}

/** undefined for what is no QMP message: the peer is then not, or no longer, to be trusted. */
function parseMessage(line: string): QmpMessage | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? (value as QmpMessage) : undefined;
  } catch {
    return undefined;
  }
}

function open(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once("connect", () => {
      socket.removeListener("error", reject);
      resolve(socket);
    });
    socket.once("error", reject);
  });
}
