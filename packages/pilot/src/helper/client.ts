import type { Socket } from "node:net";
import { HobError } from "@hob/protocol";
import { connectHelper, firstAnswer, helperError, nextFrame } from "./connection.ts";
import { type ExecSpec, encodeExec } from "./exec-request.ts";
import { encodeFrame, type FrameDecoder } from "./frames.ts";
import { HelperProcess } from "./process.ts";
import {
  encodeEntropy,
  encodeMount,
  encodeNetwork,
  encodePathRequest,
  encodeSetTime,
  encodeSync,
  type MountSpec,
  type NetworkSpec,
} from "./system.ts";
import { CLIENT_FRAME, HELPER_LIMITS, REQUEST, SERVER_FRAME } from "./wire.ts";

/** Bound on every answer; the helper's own bounds are 10 s. */
const ANSWER_TIMEOUT_MS = 15_000;
/** `sync` waits for the disk. */
const SYNC_TIMEOUT_MS = 120_000;

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
    if (frame.type !== SERVER_FRAME.started) throw unexpected(socket, frame.type);
    return new HelperProcess(socket, decoder, frame.payload.readUInt32LE(0));
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
    await this.#call(encodeMount(spec));
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

  async #call(request: Buffer, timeoutMs = ANSWER_TIMEOUT_MS): Promise<void> {
    const socket = await connectHelper(this.#socketPath);
    const { frame } = await firstAnswer(socket, request, timeoutMs);
    if (frame.type !== SERVER_FRAME.ok) throw unexpected(socket, frame.type);
    socket.destroy();
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
