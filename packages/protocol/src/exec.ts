/** Exec over WebSocket: stream ids of binary frames and the JSON text frames. */

/** First byte of every binary frame of a session without a TTY. */
export const STREAM = { stdin: 0, stdout: 1, stderr: 2, exit: 3, stdinEof: 4 } as const;

/** Idle seconds after which the server sends a keepalive text frame: the JS SDK drops a socket silent for 45 s. */
export const KEEPALIVE_INTERVAL_MS = 10_000;

export interface SessionInfoFrame {
  type: "session_info";
  session_id: string;
  command: string;
  /** Unix time, seconds */
  created: number;
  cols: number;
  rows: number;
  is_owner: boolean;
  tty: boolean;
  /** Hob's own, to those who attach: bytes of output before the first that this client gets; more than asked for if those are gone */
  output_offset?: number;
  /** bytes of output before the oldest that is kept */
  first_output_offset?: number;
  /** bytes of input that the session has taken */
  input_offset?: number;
}
export interface ExitFrame {
  type: "exit";
  exit_code: number;
  /** the same value once more, for the Elixir SDK */
  code: number;
}
export interface KeepaliveFrame {
  type: "keepalive";
}
export type ServerTextFrame = SessionInfoFrame | ExitFrame | KeepaliveFrame;

export type ClientTextFrame = { type: "resize"; cols: number; rows: number } | { type: "signal"; signal: string };

/** WebSocket close code for a TTY session: SDKs that ignore the exit frame take 1000 for success, all else for failure. */
export const ttyCloseCode = (exitCode: number): number => (exitCode === 0 ? 1000 : 4000 + exitCode);
