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
import type { OutputReader, SessionClient } from "./output-reader.ts";
import type { SessionView } from "./session.ts";

/** A session's client at the other end of a `POST …/exec`. */
export class HttpClient implements SessionClient {
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #session: SessionView;
  readonly #frames: ExecFrameSink;
  readonly #prefixed: boolean;
  #reader: OutputReader | undefined;
  #bodyBytes = 0;

  constructor(request: IncomingMessage, response: ServerResponse, session: SessionView) {
    this.#request = request;
    this.#response = response;
    this.#session = session;
    this.#prefixed = request.headers[EXEC_FRAMES_HEADER] === PREFIXED;
    const Frames = this.#prefixed ? PrefixedFrames : FramePacer;
    this.#frames = new Frames(response, () => this.#reader?.wake());
  }

  /** @param stdin false: the body is ignored */
  attach(stdin: boolean): void {
    this.#reader = this.#session.attach(this, 0);
    this.#response.socket?.setNoDelay(true);
    this.#response.writeHead(200, {
      "Content-Type": "application/octet-stream",
      "Cache-Control": "no-store, no-transform",
      "Sprite-Version": SPRITE_VERSION,
      ...(this.#prefixed ? { [EXEC_FRAMES_HEADER]: PREFIXED } : {}),
    });
    this.#response.flushHeaders();
    this.#response.on("close", () => this.#session.detach(this));
    if (stdin) this.#relayBody();
    else this.#request.resume();
    this.#reader.start();
  }

  output(stream: number, data: Buffer): boolean {
    this.#frames.push(stream, data);
    return this.#frames.queuedBytes <= LIMITS.outputHighWaterBytes;
  }

  ended(exitCode: number): void {
    this.#frames.push(STREAM.exit, Buffer.of(exitCode));
    this.#frames.end();
  }

  /** The status is sent already, so only the connection can say it. */
  cut(): void {
    this.#response.destroy();
  }

  inputDrained(): void {
    this.#request.resume();
  }

  #relayBody(): void {
    this.#request.on("data", (chunk: Buffer) => {
      this.#bodyBytes += chunk.length;
      if (this.#bodyBytes > LIMITS.httpExecBodyBytes) return this.cut();
      this.#session.input(chunk);
      if (this.#session.pendingInputBytes > LIMITS.inputHighWaterBytes) this.#request.pause();
    });
    this.#request.on("end", () => this.#session.endInput());
  }
}
