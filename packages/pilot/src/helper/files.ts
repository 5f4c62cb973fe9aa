import type { Socket } from "node:net";
import type { Writable } from "node:stream";
import { getSystemErrorMap } from "node:util";
import { HobError } from "@hob/protocol";
import { helperError } from "./connection.ts";
import type { ExecTarget } from "./exec-request.ts";
import { decodeEntries, decodeEvents, type EntryRecord, type EventRecord } from "./file-records.ts";
import { encodeFrame, type Frame, FrameDecoder, ItemWriter } from "./frames.ts";
import { CLIENT_FRAME, FILE_FLAG, FILE_OPERATION, FRAME_HEADER_BYTES, HELPER_LIMITS, REQUEST, SERVER_FRAME, TAG } from "./wire.ts";

export type { EntryRecord, EventRecord } from "./file-records.ts";

/** As whom files are touched; ids of the container. */
export interface FileUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

export interface FileRequest {
  readonly operation: keyof typeof FILE_OPERATION;
  /** absolute, in the container */
  readonly path: string;
  /** rename, copy, install: absolute path; symlink: text of the link */
  readonly destination?: string;
  readonly user: FileUser;
  readonly target: ExecTarget;
  /** read: a part only */
  readonly range?: { readonly offset: number; readonly length?: number } | { readonly suffix: number };
  /** write, chmod, mkdir: permissions */
  readonly mode?: number;
  readonly flags?: Partial<Record<keyof typeof FILE_FLAG, boolean>>;
  /** list: glob */
  readonly pattern?: string;
  /** chown: a name, digits, or "+" and digits, which is never a name */
  readonly owner?: string;
  readonly group?: string;
  /** folder of the container that paths begin in and do not leave, links and `..` included; for root only */
  readonly root?: string;
}

/** @throws HobError `invalid_request` if a string has a NUL character, or all are too long */
export function encodeFileRequest(request: FileRequest): Buffer {
  const { user, target, range, flags = {} } = request;
  const items = new ItemWriter()
    .u8(TAG.operation, FILE_OPERATION[request.operation])
    .text(TAG.path, request.path)
    .u32(TAG.targetPid, target.initPid)
    .text(TAG.cgroup, target.cgroupDir)
    .u32(TAG.uid, user.uid)
    .u32(TAG.gid, user.gid)
    .text(TAG.user, user.name);
  if (request.destination !== undefined) items.text(TAG.destination, request.destination);
  if (range !== undefined && "suffix" in range) items.u64(TAG.suffix, range.suffix);
  else if (range !== undefined) items.u64(TAG.offset, range.offset);
  if (range !== undefined && "length" in range && range.length !== undefined) items.u64(TAG.length, range.length);
  if (request.mode !== undefined) items.u32(TAG.mode, request.mode);
  const names = Object.keys(flags) as (keyof typeof FILE_FLAG)[];
  items.u32(
    TAG.fileFlags,
    names.reduce((bits, name) => (flags[name] === true ? bits | FILE_FLAG[name] : bits), 0),
  );
  if (request.pattern !== undefined) items.text(TAG.pattern, request.pattern);
  if (request.owner !== undefined) items.text(TAG.owner, request.owner);
  if (request.group !== undefined) items.text(TAG.group, request.group);
  if (request.root !== undefined) items.text(TAG.rootDirectory, request.root);
  return encodeFrame(REQUEST.files, items.finish());
}

/** An operation that the kernel refused. */
export class FileError extends Error {
  override readonly name = "FileError";
  /** name of the errno, such as ENOENT */
  readonly errno: string;
  readonly path: string;

  constructor(errno: number, path: string) {
    const [name, text] = getSystemErrorMap().get(-errno) ?? ["EIO", `error ${errno}`];
    super(text);
    this.errno = name;
    this.path = path;
  }
}

/** What a read begins with. */
export interface FileInfo {
  readonly sizeBytes: number;
  /** of the part that follows */
  readonly startByte: number;
  readonly lengthBytes: number;
  readonly modifiedMs: number;
  readonly modifiedNs: bigint;
  readonly inode: bigint;
}

export interface FilesDone {
  readonly count: number;
  readonly bytes: number;
  readonly mode: number;
}

/** One operation on files, under way in the helper. It ends when it is done, or when the stream is closed. */
export class FileStream {
  readonly #socket: Socket;
  readonly #chunks: AsyncIterator<Buffer>;
  readonly #decoder = new FrameDecoder();

  constructor(socket: Socket, request: Buffer) {
    this.#socket = socket;
    this.#chunks = socket[Symbol.asyncIterator]();
    socket.write(request);
  }

  /** Gives the operation up, or frees the connection after its end. */
  close(): void {
    this.#socket.destroy();
  }

  /** Waits until the operation can begin, for write and watch. @throws FileError | HobError */
  async ready(): Promise<void> {
    await this.#expect(SERVER_FRAME.ok);
  }

  /** @throws FileError | HobError */
  async info(): Promise<FileInfo> {
    return decoded(decodeInfo, await this.#expect(SERVER_FRAME.fileInfo));
  }

  /**
   * Copies the content that follows the info, as slowly as the sink takes it.
   * @throws HobError `helper_failed` if the file became shorter meanwhile, or the sink was closed
   */
  async copyContent(lengthBytes: number, sink: Writable): Promise<void> {
    let left = lengthBytes;
    for (let chunk = this.#decoder.takeRest(); ; chunk = await this.#nextChunk()) {
      left -= chunk.length;
      if (left < 0) throw new HobError("helper_failed", "read file: the helper sent more than it said");
      if (chunk.length > 0 && !sink.write(chunk)) await drained(sink);
      if (left === 0) return;
    }
  }

  /** Sends a part of what is written. Resolves when more can be sent. */
  async write(chunk: Buffer): Promise<void> {
    let accepted = true;
    this.#socket.cork();
    for (let at = 0; at < chunk.length; at += HELPER_LIMITS.frameBytes) {
      const part = chunk.subarray(at, at + HELPER_LIMITS.frameBytes);
      const header = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
      header.writeUInt32LE(part.length, 0);
      header.writeUInt8(CLIENT_FRAME.stdin, 4);
      this.#socket.write(header);
      accepted = this.#socket.write(part);
    }
    this.#socket.uncork();
    if (!accepted) await drained(this.#socket);
  }

  /** End of what is written. */
  end(): void {
    this.#socket.write(encodeFrame(CLIENT_FRAME.stdinEof));
  }

  /** Entries as they come, then what was done in all. @throws FileError | HobError */
  async *entries(): AsyncGenerator<EntryRecord[], FilesDone, undefined> {
    for (;;) {
      const { type, payload } = await this.#next();
      if (type === SERVER_FRAME.done) return decoded(decodeDone, payload);
      if (type !== SERVER_FRAME.entries) throw unexpected(type);
      yield decoded(decodeEntries, payload);
    }
  }

  /** @throws FileError | HobError */
  async done(): Promise<FilesDone> {
    return decoded(decodeDone, await this.#expect(SERVER_FRAME.done));
  }

  /** Events as they come, until the stream is closed or its top is gone. */
  async *events(): AsyncGenerator<EventRecord[], void, undefined> {
    for (;;) {
      const { type, payload } = await this.#next();
      if (type !== SERVER_FRAME.events) throw unexpected(type);
      yield decoded(decodeEvents, payload);
    }
  }

  async #expect(type: number): Promise<Buffer> {
    const frame = await this.#next();
    if (frame.type !== type) throw unexpected(frame.type);
    return frame.payload;
  }

  async #next(): Promise<Frame> {
    for (;;) {
      const frame = this.#decoder.next();
      if (frame === undefined) {
        this.#decoder.push(await this.#nextChunk());
      } else {
        if (frame.type === SERVER_FRAME.error) throw helperError(frame.payload);
        if (frame.type === SERVER_FRAME.fileError) throw decoded(decodeFileError, frame.payload);
        return frame;
      }
    }
  }

  async #nextChunk(): Promise<Buffer> {
    const next = await this.#chunks.next().catch((cause: unknown) => {
      throw new HobError("helper_unreachable", "files: the connection to the helper broke", { cause });
    });
    if (next.done === true) {
      throw new HobError("container_stopped", "files: the operation was ended before it was done", { hint: "repeat the request" });
    }
    return next.value;
  }
}

/** What is too short is an error of the helper: the process that sent it runs as the sprite's user. */
function decoded<T>(decode: (payload: Buffer) => T, payload: Buffer): T {
  try {
    return decode(payload);
  } catch (cause) {
    throw new HobError("helper_failed", "files: the helper sent a record that is not whole", { cause });
  }
}

const decodeFileError = (payload: Buffer): FileError => new FileError(payload.readUInt32LE(0), payload.toString("utf8", 4));

function decodeInfo(payload: Buffer): FileInfo {
  const modifiedNs = payload.readBigInt64LE(24) * 1_000_000_000n + BigInt(payload.readUInt32LE(32));
  return {
    sizeBytes: Number(payload.readBigUInt64LE(0)),
    startByte: Number(payload.readBigUInt64LE(8)),
    lengthBytes: Number(payload.readBigUInt64LE(16)),
    modifiedMs: Number(modifiedNs / 1_000_000n),
    modifiedNs,
    inode: payload.readBigUInt64LE(36),
  };
}

function decodeDone(payload: Buffer): FilesDone {
  return { count: Number(payload.readBigUInt64LE(0)), bytes: Number(payload.readBigUInt64LE(8)), mode: payload.readUInt32LE(16) };
}

const unexpected = (type: number): HobError => new HobError("helper_failed", `helper: unexpected answer of type ${type}`);

/** Until the stream takes more. @throws HobError `helper_unreachable` if it was closed instead */
function drained(stream: Writable): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      stream.off("drain", settle).off("close", settle);
      if (stream.destroyed) reject(new HobError("helper_unreachable", "files: a connection was closed"));
      else resolve();
    };
    if (stream.destroyed) return settle();
    stream.on("drain", settle).on("close", settle);
  });
}
