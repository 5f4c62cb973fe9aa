import { HobError, LIMITS } from "@hob/protocol";
import type { SessionView } from "./session.ts";
import type { AttachPoint } from "./websocket-client.ts";

/**
 * Where a client that attaches begins: at the offset that it asks for, or the oldest that is kept if that is gone; and
 * without one at the beginning of the scrollback. A terminal's is short: a screen is drawn from the last of it.
 * @throws HobError `invalid_request` for an offset beyond what the session has written
 */
export function attachPoint(session: SessionView, asked: number | undefined): AttachPoint {
  const { journal } = session.output;
  const { start, end } = journal;
  if (asked !== undefined && asked > end) {
    throw new HobError("invalid_request", `attach: parameter output_offset: the session has written ${end} bytes`);
  }
  const scrollback = session.about.tty === undefined ? start : Math.max(start, end - LIMITS.scrollbackBytes);
  return { outputOffset: Math.max(start, asked ?? scrollback), firstOutputOffset: start };
}
