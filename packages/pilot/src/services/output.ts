import { LineSplitter } from "../logs/line-splitter.ts";
import type { LogFile } from "../logs/log-file.ts";
import type { LogStream } from "../logs/record.ts";
import type { ServiceProcess } from "./process.ts";

/** Why a program could not be run is what the helper says on its behalf, and nothing else: `hob: FILE: reason`. */
const COMPLAINT = /^hob: (.+)\n$/;

/** Output of one run of a service: cut into lines, written to the log, shown to who listens. */
export class ServiceOutput {
  readonly #splitters: Readonly<Record<LogStream, LineSplitter>>;
  /** all of the output, if that is one block of standard error; else empty */
  #first: Buffer | undefined;

  constructor(process: ServiceProcess, log: LogFile, now: () => number, emit: (stream: LogStream, lines: Buffer) => void) {
    const take = (stream: LogStream) => (lines: Buffer) => {
      const isFirst = this.#first === undefined;
      this.#first = isFirst && stream === "stderr" ? lines : Buffer.alloc(0);
      if (!log.append({ stream, text: lines, timeMs: now() })) process.pause();
      emit(stream, lines);
    };
    this.#splitters = { stdout: new LineSplitter(take("stdout")), stderr: new LineSplitter(take("stderr")) };
    log.onDrain(() => process.resume());
    process.start({ stdout: (chunk) => this.#splitters.stdout.push(chunk), stderr: (chunk) => this.#splitters.stderr.push(chunk) });
  }

  /** The process has ended; what had no line feed is a line. */
  end(): void {
    this.#splitters.stdout.end();
    this.#splitters.stderr.end();
  }

  /** Why the program could not be run, if that is all there is. Only meaningful with exit status 126 or 127. */
  get complaint(): string | undefined {
    return COMPLAINT.exec(this.#first?.toString("utf8") ?? "")?.[1];
  }
}
