import type { Socket } from "node:net";
import { HobError } from "@hob/protocol";
import { connectHelper, firstAnswer, helperError } from "./connection.ts";
import { encodeFrame, type FrameDecoder, ItemWriter } from "./frames.ts";
import { formatAddress, parseAddress } from "./ip-address.ts";
import { HELPER_LIMITS, REQUEST, SERVER_FRAME, TAG } from "./wire.ts";

export interface SocketAddress {
  /** IPv4 or IPv6, numeric */
  readonly address: string;
  readonly port: number;
}

/** A TCP socket that listens inside the container. */
export interface Listener extends SocketAddress {
  /** process id inside the container; 0 where none was found */
  readonly pid: number;
  /** inode of the socket, unique among those that are open */
  readonly inode: number;
}

/** A connection that was opened inside the container. */
export interface InsideConnection {
  /** Its bytes both ways, half-open where one side has ended. Paused. */
  readonly socket: Socket;
  readonly peer: SocketAddress;
}

/** A watch that runs. */
export interface ListenerWatch extends Disposable {
  /** settles when the watch has ended: by itself with the container, or because it was disposed; never rejects */
  readonly ended: Promise<void>;
}

const CONNECT_TIMEOUT_MS = 10_000;
/** Beyond the helper's own bound: it is the one that knows why. */
const ANSWER_SLACK_MS = 5_000;
const LISTENER_BYTES = 32;

/**
 * Opens a TCP connection in the network namespace of a container, to the first of the endpoints that accepts.
 * @param initPid PID 1 of the container, in the root namespace
 * @param timeoutMs for all endpoints together
 * @throws HobError `helper_failed` with `details.errno` of the first endpoint | `helper_unreachable` | `timeout` | `invalid_request`
 */
export async function connectInside(
  socketPath: string,
  initPid: number,
  endpoints: readonly SocketAddress[],
  timeoutMs = CONNECT_TIMEOUT_MS,
): Promise<InsideConnection> {
  const items = new ItemWriter().u32(TAG.targetPid, initPid).u32(TAG.timeoutMs, timeoutMs);
  for (const endpoint of endpoints.slice(0, HELPER_LIMITS.endpoints)) items.bytes(TAG.endpoint, encodeEndpoint(endpoint));
  const socket = await connectHelper(socketPath, true);
  const { frame, decoder } = await firstAnswer(socket, encodeFrame(REQUEST.sockets, items.finish()), timeoutMs + ANSWER_SLACK_MS);
  const peer = frame.type === SERVER_FRAME.ok ? endpoints[frame.payload[0] ?? -1] : undefined;
  if (peer === undefined) {
    socket.destroy();
    throw new HobError("helper_failed", `helper: unexpected answer of type ${frame.type}`);
  }
  const early = decoder.takeRest();
  if (early.length > 0) socket.unshift(early);
  return { socket, peer };
}

function encodeEndpoint({ address, port }: SocketAddress): Buffer {
  const bytes = parseAddress(address);
  if (bytes === undefined || !Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new HobError("invalid_request", `connect inside the sprite: ${JSON.stringify(address)} port ${port} is no address`);
  }
  const encoded = Buffer.alloc(2 + bytes.length);
  encoded.writeUInt16LE(port, 0);
  encoded.set(bytes, 2);
  return encoded;
}

/**
 * Tells what listens in the network namespace of a container: now, and after each change.
 * @param intervalMs how often the helper looks, 20 to 60 000
 * @throws HobError `helper_failed` | `helper_unreachable` | `timeout` when it cannot be begun
 */
export async function watchListeners(
  socketPath: string,
  initPid: number,
  intervalMs: number,
  onList: (listeners: Listener[]) => void,
): Promise<ListenerWatch> {
  const items = new ItemWriter().u32(TAG.targetPid, initPid).u32(TAG.intervalMs, intervalMs);
  const socket = await connectHelper(socketPath);
  const { frame, decoder } = await firstAnswer(socket, encodeFrame(REQUEST.sockets, items.finish()), CONNECT_TIMEOUT_MS);
  if (frame.type !== SERVER_FRAME.ok) {
    socket.destroy();
    throw new HobError("helper_failed", `helper: unexpected answer of type ${frame.type}`);
  }
  const ended = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  const deliver = (chunk: Buffer) => {
    try {
      takeLists(decoder, chunk, onList);
    } catch {
      // What is not understood ends the watch; whoever needs it begins another.
      socket.destroy();
    }
  };
  socket.on("data", deliver).resume();
  deliver(Buffer.alloc(0));
  return { ended, [Symbol.dispose]: () => socket.destroy() };
}

function takeLists(decoder: FrameDecoder, chunk: Buffer, onList: (listeners: Listener[]) => void): void {
  decoder.push(chunk);
  for (let frame = decoder.next(); frame !== undefined; frame = decoder.next()) {
    if (frame.type === SERVER_FRAME.error) throw helperError(frame.payload);
    if (frame.type === SERVER_FRAME.listeners) onList(decodeListeners(frame.payload));
  }
}

function decodeListeners(payload: Buffer): Listener[] {
  const listeners: Listener[] = [];
  for (let at = 0; at + LISTENER_BYTES <= payload.length; at += LISTENER_BYTES) {
    listeners.push({
      address: formatAddress(payload.subarray(at + 16, at + (payload[at] === 4 ? 20 : 32))),
      port: payload.readUInt16LE(at + 2),
      pid: payload.readUInt32LE(at + 8),
      inode: payload.readUInt32LE(at + 12),
    });
  }
  return listeners;
}
