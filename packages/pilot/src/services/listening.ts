import { readFile } from "node:fs/promises";

/** State TCP_LISTEN in proc_net_tcp(5), which proc(5) describes as include/net/tcp_states.h has it. */
const LISTEN = "0A";

/**
 * Whether anything listens on a TCP port in the network namespace of a process, on whatever address.
 * @param pid in the root namespace; a process that has ended counts as no
 */
export async function isListening(pid: number, port: number): Promise<boolean> {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  for (const table of ["tcp", "tcp6"]) {
    const text = await readFile(`/proc/${pid}/net/${table}`, "utf8").catch(() => "");
    for (const line of text.split("\n").slice(1)) {
      const [, local, , state] = line.trim().split(/\s+/);
      if (state === LISTEN && local?.endsWith(suffix)) return true;
    }
  }
  return false;
}
