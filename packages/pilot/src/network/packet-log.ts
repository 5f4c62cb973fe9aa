import { closeSync, constants, openSync, readSync } from "node:fs";
import { BLOCKED_PREFIX } from "./firewall.ts";

export interface BlockedPacket {
  protocol: string;
  address: string;
  port: number | undefined;
}

const POLL_MS = 1_000;
/** Longest record of /dev/kmsg; a shorter buffer makes read(2) fail, kernel documentation ABI/testing/dev-kmsg. */
const RECORD_BYTES_MAX = 8_192;
const RECORDS_PER_POLL = 256;

/**
 * Dropped packets, as the packet filter logs them to the kernel's log. Polled, because Node.js cannot wait for this
 * device; nothing of a sprite's can write there.
 */
export class PacketLog {
  readonly #listener: (packet: BlockedPacket) => void;
  readonly #device: string;
  #descriptor = -1;
  #timer: NodeJS.Timeout | undefined;

  constructor(listener: (packet: BlockedPacket) => void, device = "/dev/kmsg") {
    this.#listener = listener;
    this.#device = device;
  }

  /** Tells of packets from now on. A kernel without the device, or one that is closed to us, only means no such entries. */
  start(): void {
    if (this.#timer !== undefined) return;
    try {
      this.#descriptor = openSync(this.#device, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch {
      return;
    }
    this.#drain(() => {}, Number.POSITIVE_INFINITY);
    this.#timer = setInterval(() => this.poll(), POLL_MS).unref();
  }

  poll(): void {
    if (this.#descriptor >= 0) this.#drain((packet) => this.#listener(packet), RECORDS_PER_POLL);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.#descriptor >= 0) closeSync(this.#descriptor);
    this.#descriptor = -1;
  }

  #drain(tell: (packet: BlockedPacket) => void, records: number): void {
    const buffer = Buffer.alloc(RECORD_BYTES_MAX);
    for (let left = records; left > 0; left--) {
      try {
        const length = readSync(this.#descriptor, buffer);
        if (length === 0) return;
        const packet = parseRecord(buffer.toString("latin1", 0, length));
        if (packet !== undefined) tell(packet);
      } catch (error) {
        // EPIPE: records were overwritten before they were read, and the next read goes on after the gap.
        if ((error as NodeJS.ErrnoException).code !== "EPIPE") return;
      }
    }
  }
}

/** One record: `priority,number,microseconds,flags;text`, the text as of nf_log_syslog. */
export function parseRecord(record: string): BlockedPacket | undefined {
  const text = record.slice(record.indexOf(";") + 1);
  if (!text.startsWith(`${BLOCKED_PREFIX} `)) return undefined;
  const field = (name: string) => new RegExp(` ${name}=(\\S+)`).exec(text)?.[1];
  const [protocol, address, port] = [field("PROTO"), field("DST"), field("DPT")];
  if (address === undefined) return undefined;
  return { protocol: (protocol ?? "?").toLowerCase(), address, port: port === undefined ? undefined : Number(port) };
}
