import type { IncomingMessage, ServerResponse } from "node:http";
import {
  EXEC_FRAMES_HEADER,
  type ExecFrameSink,
  FramePacer,
  LIMITS,
  PREFIXED,
  PrefixedFrames,
  SPRITE_VERSION,
  STREAM,
} from "@hob/protocol";
import type { Session, SessionClient } from "./sessions.ts";

/** A session's client at the other end of a `POST …/exec`. */
export class HttpClient implements SessionClient {
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #frames: ExecFrameSink;
  readonly #prefixed: boolean;
  #session: Session | undefined;
  #bodyBytes = 0;

  constructor(request: IncomingMessage, response: ServerResponse) {
    this.#request = request;
    this.#response = response;
    this.#prefixed = request.headers[EXEC_FRAMES_HEADER] === PREFIXED;
    const Frames = this.#prefixed ? PrefixedFrames : FramePacer;
    this.#frames = new Frames(response, () => this.#session?.process.resume());
  }

  /** @param stdin false: the body is ignored */
  attach(session: Session, stdin: boolean): void {
    this.#session = session;
    this.#response.socket?.setNoDelay(true);
    this.#response.writeHead(200, {
      "Content-Type": "application/octet-stream",
      "Cache-Control": "no-store, no-transform",
      "Sprite-Version": SPRITE_VERSION,
      ...(this.#prefixed ? { [EXEC_FRAMES_HEADER]: PREFIXED } : {}),
    });
    this.#response.flushHeaders();
    this.#response.on("close", () => this.#onClose());
    if (stdin) this.#relayBody(session);
    else {
      this.#request.resume();
      session.process.end();
    }
    session.start();
  }

  stdout(chunk: Buffer): void {
    this.#send(STREAM.stdout, chunk);
  }

  stderr(chunk: Buffer): void {
    this.#send(STREAM.stderr, chunk);
  }

  ended(exitCode: number): void {
    this.#session = undefined;
    this.#frames.push(STREAM.exit, Buffer.of(exitCode));
    this.#frames.end();
  }

  #send(stream: number, chunk: Buffer): void {
    this.#frames.push(stream, chunk);
    if (this.#frames.queuedBytes > LIMITS.outputHighWaterBytes) this.#session?.process.pause();
  }

  #relayBody(session: Session): void {
    session.process.onInputDrain(() => this.#request.resume());
    this.#request.on("data", (chunk: Buffer) => {
      this.#bodyBytes += chunk.length;
      // The status is sent already, so only the connection can say it.
      if (this.#bodyBytes > LIMITS.httpExecBodyBytes) return this.#response.destroy();
      session.process.write(chunk);
      if (session.process.pendingInputBytes > LIMITS.inputHighWaterBytes) this.#request.pause();
    });
    this.#request.on("end", () => session.process.end());
  }

  #onClose(): void {
    this.#session?.disconnect();
    this.#session = undefined;
  }
}
