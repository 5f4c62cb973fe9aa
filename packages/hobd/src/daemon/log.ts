import { closeSync, fstatSync, openSync, renameSync, writeSync } from "node:fs";
import { type Logger, pino } from "pino";
import { homeOperation } from "./home.ts";

/** Bytes after which the log file becomes `<path>.1` and a new one begins: at most twice this is kept. */
const LOG_BYTES_MAX = 8 * 1024 * 1024;

/** Names of fields that may hold a secret, wherever an object with them is logged. */
const SECRET_FIELDS = ["token", "pilotToken", "authorization", "secret", "secretHash", "environment", "rawHeaders", "headers"];

/**
 * A log file of bounded size. Writes are synchronous, so that the last line before a crash is there; there are few.
 * A log that cannot be written, on a full disk for one, loses lines and never stops the daemon.
 */
export class RotatingFile {
  readonly #path: string;
  readonly #bytesMax: number;
  #fd: number;
  #size: number;

  /** @throws HobError `home_unusable` | `no_space` */
  constructor(path: string, bytesMax = LOG_BYTES_MAX) {
    this.#path = path;
    this.#bytesMax = bytesMax;
    this.#fd = homeOperation("open", path, () => openSync(path, "a", 0o600));
    this.#size = fstatSync(this.#fd).size;
  }

  write(line: string): void {
    if (this.#fd < 0) return;
    try {
      if (this.#size >= this.#bytesMax) this.#rotate();
      this.#size += writeSync(this.#fd, line);
    } catch {
      // Nothing to tell, and nowhere to tell it.
    }
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  #rotate(): void {
    renameSync(this.#path, `${this.#path}.1`);
    const next = openSync(this.#path, "a", 0o600);
    closeSync(this.#fd);
    this.#fd = next;
    this.#size = 0;
  }
}

/** The daemon's logger: JSON lines (pino) into the file. */
export function createLogger(level: string, file: RotatingFile): Logger {
  const paths = SECRET_FIELDS.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]);
  return pino({ level, redact: { paths, censor: "[secret]" }, timestamp: pino.stdTimeFunctions.isoTime, base: { pid: process.pid } }, file);
}
