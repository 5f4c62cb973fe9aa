import type { PortNotification } from "@hob/protocol";
import type { Listener } from "../helper/index.ts";

/** One port with all the sockets that listen on it. */
export interface OpenPort {
  readonly port: number;
  /** the address that reaches furthest: any before loopback before others */
  readonly address: string;
  readonly pid: number;
  readonly inodes: readonly number[];
}

const REACH = ["0.0.0.0", "::", "127.0.0.1", "::1"];

const rank = ({ address }: Listener): number => (REACH.includes(address) ? REACH.indexOf(address) : REACH.length);

/** Sockets by port, lowest port first. A server often has two on one port, for IPv4 and IPv6: to a user that is one. */
export function openPorts(listeners: readonly Listener[]): Map<number, OpenPort> {
  const ports = new Map<number, OpenPort>();
  for (const [port, sockets] of Map.groupBy(listeners, (listener) => listener.port)) {
    const [first] = sockets.toSorted((a, b) => rank(a) - rank(b) || a.inode - b.inode);
    if (first !== undefined) ports.set(port, { port, address: first.address, pid: first.pid, inodes: sockets.map(({ inode }) => inode) });
  }
  return new Map([...ports].sort(([a], [b]) => a - b));
}

export const notification = (type: PortNotification["type"], { port, address, pid }: OpenPort): PortNotification => ({
  type,
  port,
  address,
  pid,
});
