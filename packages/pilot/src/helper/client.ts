import type { Socket } from "node:net";
import { HobError } from "@hob/protocol";
import type { ByteRange } from "./byte-range.ts";
import { FileComparison } from "./compare.ts";
import { connectHelper, firstAnswer, helperError, nextFrame } from "./connection.ts";
import { type DmStatus, type DmTarget, encodeDm, parseDmStatus } from "./device-mapper.ts";
import { type ExecSpec, encodeExec } from "./exec-request.ts";
import { encodeFileRequest, type FileRequest, FileStream } from "./files.ts";
import { encodeFrame, type FrameDecoder } from "./frames.ts";
import { HelperProcess } from "./process.ts";
import { connectInside, type InsideConnection, type Listener, type ListenerWatch, type SocketAddress, watchListeners } from "./sockets.ts";
import {
  encodeEntropy,
  encodeMount,
  encodeMoveMount,
  encodeNbd,
  encodeNetwork,
  encodePathRequest,
  encodeSetTime,
  encodeSync,
  encodeUnmount,
  type MountSpec,
  type NbdAction,
  type NetworkSpec,
} from "./system.ts";
import { CLIENT_FRAME, HELPER_LIMITS, REQUEST, SERVER_FRAME } from "./wire.ts";

/** Bound on every answer; the helper's own bounds are 10 s. */
const ANSWER_TIMEOUT_MS = 15_000;
/** `sync` waits for the disk. */
const SYNC_TIMEOUT_MS = 120_000;
/** Device-mapper waits for metadata to be on disk. */
const DM_TIMEOUT_MS = 60_000;
/** What is dirty is written before a snapshot: as much as memory holds. */
const SNAPSHOT_TIMEOUT_MS = 600_000;

/** Client of the resident native helper. Each call is a connection of its own, so calls are independent. */
export class HelperClient {
  readonly #socketPath: string;

  /** @param socketPath unix socket of `hob-helper serve` */
  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /**
   * Starts a process, paused: call `start` on it. A program that cannot be run is no error here: it exits with 126 or 127.
   * @throws HobError `helper_failed` if the namespaces, user or terminal could not be set up | `helper_unreachable` | `invalid_request`
   */
  async exec(spec: ExecSpec): Promise<HelperProcess> {
    const request = encodeExec(spec);
    const socket = await connectHelper(this.#socketPath);
    const { frame, decoder } = await firstAnswer(socket, request, ANSWER_TIMEOUT_MS);
    if (frame.type !== SERVER_FRAME.started || frame.payload.length < 4) throw unexpected(socket, frame.type);
    return new HelperProcess(socket, decoder, frame.payload.readUInt32LE(0));
  }

  /**
   * Begins an operation on files inside the container. How it goes is for the stream to tell, which has to be closed.
   * @throws HobError `helper_unreachable` | `invalid_request`
   */
  async files(request: FileRequest): Promise<FileStream> {
    const encoded = encodeFileRequest(request);
    return new FileStream(await connectHelper(this.#socketPath), encoded);
  }

  /** Begins to compare files of the root namespace; to be disposed of. @throws HobError `helper_unreachable` | `helper_failed` | `timeout` */
  compare(): Promise<FileComparison> {
    return FileComparison.begin(this.#socketPath);
  }

  /** Credits 1 to 4096 random bytes and reseeds the kernel's generator at once. random(4) */
  async addEntropy(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0 || bytes.length > HELPER_LIMITS.entropyBytes) {
      throw new HobError("invalid_request", `add entropy: ${bytes.length} bytes, 1 to ${HELPER_LIMITS.entropyBytes} are possible`);
    }
    await this.#call(encodeEntropy(bytes));
  }

  /** Sets CLOCK_REALTIME. @param unixMs milliseconds since 1970 */
  async setTime(unixMs: number): Promise<void> {
    await this.#call(encodeSetTime(Math.round(unixMs)));
  }

  /** sync(2): returns when all file systems are on disk. */
  async sync(): Promise<void> {
    await this.#call(encodeSync(), SYNC_TIMEOUT_MS);
  }

  /**
   * Stops all writes to the file system at `path`. It thaws by `thaw()`, after `leaseMs`, or when this process ends,
   * whichever is first. @param leaseMs default 10 000
   */
  async freeze(path: string, leaseMs = 10_000): Promise<FrozenFilesystem> {
    const socket = await connectHelper(this.#socketPath);
    const { frame, decoder } = await firstAnswer(socket, encodePathRequest(REQUEST.freeze, path, leaseMs), ANSWER_TIMEOUT_MS);
    if (frame.type !== SERVER_FRAME.ok) throw unexpected(socket, frame.type);
    return new FrozenFilesystem(socket, decoder);
  }

  /** Thaws a file system whose lease was lost. EINVAL (22) in `details.errno`: it is not frozen. */
  async thaw(path: string): Promise<void> {
    await this.#call(encodePathRequest(REQUEST.thaw, path));
  }

  /** Mounts a file system, idmapped if asked. mount_setattr(2) */
  async idmapMount(spec: MountSpec): Promise<void> {
    await this.#call(encodeMount(spec), spec.timeoutMs ?? ANSWER_TIMEOUT_MS);
  }

  /** umount(8). EINVAL (22) in `details.errno`: nothing is mounted there. @param lazy detach now, free when its last user ends */
  async unmount(path: string, { lazy = false } = {}): Promise<void> {
    await this.#call(encodeUnmount(path, lazy), SYNC_TIMEOUT_MS);
  }

  /** Moves a mount, with those below it, to another existing folder. */
  async moveMount(from: string, to: string): Promise<void> {
    await this.#call(encodeMoveMount(from, to));
  }

  /** Makes a device `/dev/mapper/NAME`. EEXIST (17) in `details.errno`: there is one of this name. dm-ioctl.h */
  async dmCreate(name: string, table: readonly DmTarget[], { readOnly = false } = {}): Promise<void> {
    await this.#call(encodeDm.create(name, table, readOnly), DM_TIMEOUT_MS);
  }

  /** Puts another table in place of a device's own, without waiting for what is under way there. */
  async dmReplace(name: string, table: readonly DmTarget[]): Promise<void> {
    await this.#call(encodeDm.replace(name, table), DM_TIMEOUT_MS);
  }

  async dmResume(name: string): Promise<void> {
    await this.#call(encodeDm.resume(name), DM_TIMEOUT_MS);
  }

  /** ENXIO (6) in `details.errno`: there is none. @param deferred remove it when its last user ends */
  async dmRemove(name: string, { deferred = false } = {}): Promise<void> {
    await this.#call(encodeDm.remove(name, deferred), DM_TIMEOUT_MS);
  }

  async dmMessage(name: string, text: string): Promise<void> {
    await this.#call(encodeDm.message(name, text), DM_TIMEOUT_MS);
  }

  async dmStatus(name: string): Promise<DmStatus> {
    return parseDmStatus((await this.#call(encodeDm.status(name), DM_TIMEOUT_MS)).toString("utf8"));
  }

  /** Names of all devices. */
  async dmList(): Promise<string[]> {
    const text = (await this.#call(encodeDm.list(), DM_TIMEOUT_MS)).toString("utf8");
    return text.split("\n").filter((name) => name !== "" && name !== "No devices");
  }

  /** Discards these parts of a device one after the other, BLKDISCARD. @param ranges of whole sectors, at least one, some 10 000 at most */
  async dmDiscard(name: string, ranges: readonly ByteRange[]): Promise<void> {
    await this.#call(encodeDm.discard(name, ranges), SNAPSHOT_TIMEOUT_MS);
  }

  /**
   * Writes the file system at `mountPoint` out, freezes it and its device `origin`, sends the pool a message, and lets
   * both go on, all inside the helper. @returns how long they stood still, milliseconds
   */
  async dmSnapshot(pool: string, message: string, origin: string, mountPoint: string): Promise<number> {
    const answer = await this.#call(encodeDm.snapshot(pool, message, origin, mountPoint), SNAPSHOT_TIMEOUT_MS);
    return Number(answer.toString("utf8")) / 1000;
  }

  /** Creates a veth pair with addresses and routes on both sides; an outer interface of the same name is replaced. */
  async setUpNetwork(spec: NetworkSpec): Promise<void> {
    await this.#call(encodeNetwork(spec));
  }

  /**
   * Kills every process in the cgroup and waits until none is left. A cgroup that does not exist counts as empty.
   * @param timeoutMs 1 to 60 000, default 10 000
   */
  async killCgroup(directory: string, timeoutMs = 10_000): Promise<void> {
    await this.#call(encodePathRequest(REQUEST.killCgroup, directory, timeoutMs), timeoutMs + 5_000);
  }

  /** Connects, reconnects or disconnects `/dev/nbdN`, read-only. ENODEV (19) in `details.errno`: the kernel has no nbd. */
  async nbd(index: number, action: NbdAction): Promise<void> {
    await this.#call(encodeNbd(index, action));
  }

  /** See {@link connectInside}. */
  connectInside(initPid: number, endpoints: readonly SocketAddress[], timeoutMs?: number): Promise<InsideConnection> {
    return connectInside(this.#socketPath, initPid, endpoints, timeoutMs);
  }

  /** See {@link watchListeners}. */
  watchListeners(initPid: number, intervalMs: number, onList: (listeners: Listener[]) => void): Promise<ListenerWatch> {
    return watchListeners(this.#socketPath, initPid, intervalMs, onList);
  }

  async #call(request: Buffer, timeoutMs = ANSWER_TIMEOUT_MS): Promise<Buffer> {
    const socket = await connectHelper(this.#socketPath);
    const { frame } = await firstAnswer(socket, request, timeoutMs);
    if (frame.type !== SERVER_FRAME.ok) throw unexpected(socket, frame.type);
    socket.destroy();
    return frame.payload;
  }
}

/** A freeze that lasts as long as this object's lease. */
export class FrozenFilesystem {
  readonly #socket: Socket;
  readonly #decoder: FrameDecoder;
  #released = false;

  constructor(socket: Socket, decoder: FrameDecoder) {
    this.#socket = socket;
    this.#decoder = decoder;
    socket.on("error", () => {});
  }

  /** @throws HobError `helper_failed` with `details.errno` 110 (ETIMEDOUT) if the lease had run out, so that the freeze did not hold */
  async thaw(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    try {
      this.#socket.write(encodeFrame(CLIENT_FRAME.release));
      const frame = await nextFrame(this.#socket, this.#decoder, ANSWER_TIMEOUT_MS);
      if (frame.type === SERVER_FRAME.error) throw helperError(frame.payload);
    } finally {
      this.#socket.destroy();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.thaw();
  }
}

function unexpected(socket: Socket, type: number): HobError {
  socket.destroy();
  return new HobError("helper_failed", `helper: unexpected answer of type ${type}`);
}
