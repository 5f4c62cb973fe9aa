import type { ExitFrame, SessionInfoFrame } from "@hob/protocol/exec.ts";

/** The text frames a client acts on. All others (keepalive, port_opened, of newer servers) are passed over. */
export type KnownTextFrame = SessionInfoFrame | ExitFrame;

/** @returns undefined for what is not JSON, of an unknown type, or lacks what its type must have */
export function parseTextFrame(text: string): KnownTextFrame | undefined {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof json !== "object" || json === null) return undefined;
  const frame = json as Partial<KnownTextFrame>;
  if (frame.type === "session_info" && typeof frame.session_id === "string") return frame as SessionInfoFrame;
  if (frame.type === "exit" && isExitStatus(frame.exit_code)) return frame as ExitFrame;
  return undefined;
}

const isExitStatus = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 255;
