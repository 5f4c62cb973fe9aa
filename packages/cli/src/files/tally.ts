import { Transform } from "node:stream";
import { formatBytes } from "../output/format.ts";

/** What a copy has done so far. */
export class Tally {
  files = 0;
  bytes = 0;
  /** what could not be copied, and why */
  readonly failures: { path: string; error: unknown }[] = [];

  /** Passes bytes through and counts them. */
  counter(): Transform {
    return new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        this.bytes += chunk.length;
        done(null, chunk);
      },
    });
  }

  /** Does a part of the copy; what fails is noted, and the rest goes on. */
  async attempt(path: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.failures.push({ path, error });
    }
  }

  toString(): string {
    return `${this.files} file${this.files === 1 ? "" : "s"}, ${formatBytes(this.bytes)}`;
  }
}
