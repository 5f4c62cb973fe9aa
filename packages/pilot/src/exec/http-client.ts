import type { IncomingMessage, ServerResponse } from "node:http";
import { LIMITS, SPRITE_VERSION, STREAM } from "@hob/protocol";
import type { Session, SessionClient } from "./sessions.ts";

/**
 * The frames have no length: one HTTP chunk is one frame, and clients that get two chunks in one read may merge them.
 * The exit frame therefore leaves in a segment of its own, this much later than the output.
 */
const EXIT_DELAY_MS = 10;

/** A session's client at the other end of a `POST …/exec`. Sprites API, HTTP exec. */
export class HttpClient implements SessionClient {
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  #session: Session | undefined;
  #bodyBytes = 0;

  constructor(request: IncomingMessage, response: ServerResponse) {
    this.#request = request;
    this.#response = response;
  }

  /** @param stdin false: the body is ignored */
  attach(session: Session, stdin: boolean): void {
    this.#session = session;
    this.#response.socket?.setNoDelay(true);
    this.#response.writeHead(200, {
      "Content-Type": "application/octet-stream",
      "Cache-Control": "no-store, no-transform",
      "Sprite-Version": SPRITE_VERSION,
    });
    this.#response.flushHeaders();
    this.#response.on("drain", () => session.process.resume());
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
    setTimeout(() => {
      this.#response.write(Uint8Array.of(STREAM.exit, exitCode));
      this.#response.end();
    }, EXIT_DELAY_MS);
  }

  #send(stream: number, chunk: Buffer): void {
    if (!this.#response.write(Buffer.concat([Uint8Array.of(stream), chunk]))) this.#session?.process.pause();
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
