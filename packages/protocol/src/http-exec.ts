import type { ServerResponse } from "node:http";
import { LIMITS } from "./limits.ts";

/**
 * HTTP exec frames have no length: one HTTP chunk is one frame. A client that reads two chunks at once sees them as
 * one, and one that reads half a chunk takes the rest for a new frame. So frames are small, those of one stream are
 * merged while they wait, and there is a pause between any two, long enough for a client whose event loop is late.
 */
const FRAME_BYTES_MAX = 16 * 1024;
const FRAME_GAP_MS = 25;

/**
 * Request and answer header between front door and pilot, with the value `prefixed`: frames of an HTTP exec come with
 * their length ahead, because a proxy does not see where HTTP chunks end. The front door makes chunks of them again.
 */
export const EXEC_FRAMES_HEADER = "hob-exec-frames";
export const PREFIXED = "prefixed";

/** Where the frames of an HTTP exec go. */
export interface ExecFrameSink {
  readonly queuedBytes: number;
  push(stream: number, data: Buffer): void;
  /** ends the response after all frames */
  end(): void;
}

/** Writes frames, each with its length ahead: 4 bytes, big endian, of stream and data together. */
export class PrefixedFrames implements ExecFrameSink {
  readonly #response: ServerResponse;

  /** @param onIdle called each time all has been sent */
  constructor(response: ServerResponse, onIdle: () => void) {
    this.#response = response;
    response.on("drain", onIdle);
  }

  get queuedBytes(): number {
    return this.#response.writableLength;
  }

  push(stream: number, data: Buffer): void {
    const head = Buffer.alloc(5);
    head.writeUInt32BE(data.length + 1);
    head[4] = stream;
    this.#response.write(Buffer.concat([head, data]));
  }

  end(): void {
    this.#response.end();
  }
}

/** Takes frames with their length ahead out of a stream of bytes. */
export class PrefixedFrameReader {
  readonly #onFrame: (stream: number, data: Buffer) => void;
  #rest: Buffer = Buffer.alloc(0);

  constructor(onFrame: (stream: number, data: Buffer) => void) {
    this.#onFrame = onFrame;
  }

  /** @throws RangeError for a length that no frame has */
  push(chunk: Buffer): void {
    let rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    while (rest.length >= 5) {
      const length = rest.readUInt32BE();
      if (length < 1 || length > LIMITS.webSocketMessageBytes) throw new RangeError(`a frame of ${length} bytes`);
      if (rest.length < 4 + length) break;
      this.#onFrame(rest[4] ?? 0, rest.subarray(5, 4 + length));
      rest = rest.subarray(4 + length);
    }
    this.#rest = rest;
  }
}

/** Writes frames, spaced, to a response. Sprites API, HTTP exec. */
export class FramePacer implements ExecFrameSink {
  readonly #response: ServerResponse;
  readonly #queue: { stream: number; data: Buffer }[] = [];
  readonly #onIdle: () => void;
  #queuedBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #end = false;

  /** @param onIdle called each time the queue has run empty */
  constructor(response: ServerResponse, onIdle: () => void) {
    this.#response = response;
    this.#onIdle = onIdle;
    response.on("drain", () => this.#pump());
    response.on("close", () => this.#stop());
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  push(stream: number, data: Buffer): void {
    this.#queue.push({ stream, data });
    this.#queuedBytes += data.length;
    this.#pump();
  }

  /** Ends the response after all frames. */
  end(): void {
    this.#end = true;
    this.#pump();
  }

  #pump(): void {
    if (this.#timer !== undefined || this.#response.writableNeedDrain || this.#response.destroyed) return;
    const frame = this.#takeFrame();
    if (frame !== undefined) {
      this.#response.write(frame);
      this.#timer = setTimeout(() => this.#next(), FRAME_GAP_MS);
    } else if (this.#end) {
      this.#response.end();
    }
  }

  #next(): void {
    this.#timer = undefined;
    if (this.#queue.length === 0) this.#onIdle();
    this.#pump();
  }

  /** The first waiting bytes of one stream, as far as they fit into a frame. */
  #takeFrame(): Buffer | undefined {
    const stream = this.#queue[0]?.stream;
    if (stream === undefined) return undefined;
    const parts: Uint8Array[] = [Uint8Array.of(stream)];
    let room = FRAME_BYTES_MAX;
    while (room > 0 && this.#queue[0]?.stream === stream) {
      const { data } = this.#queue[0];
      const part = data.subarray(0, room);
      parts.push(part);
      room -= part.length;
      if (part.length === data.length) this.#queue.shift();
      else this.#queue[0] = { stream, data: data.subarray(part.length) };
    }
    this.#queuedBytes -= FRAME_BYTES_MAX - room;
    return Buffer.concat(parts);
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#queue.length = 0;
    this.#queuedBytes = 0;
  }
}
