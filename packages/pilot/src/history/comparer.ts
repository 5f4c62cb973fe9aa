import type { AttributeDifference, ByteRange, FileComparison } from "../helper/index.ts";

/** How far a comparison is. */
export interface DiffProgress {
  /** paths that were looked at */
  paths: number;
  /** of large files whose content was read */
  bytes: number;
}

/** A regular file that both sides have, of the same size. */
export interface ContentPair {
  readonly one: Buffer;
  readonly other: Buffer;
  readonly sizeBytes: number;
  /** each lies on the device of its side, and not in a layer */
  readonly onDevices: boolean;
}

export interface ComparerParts {
  comparison: Pick<FileComparison, "sameContent" | "attributes" | "tellChanges">;
  /** where the devices of both sides differ; undefined: nobody knows */
  changes: () => Promise<readonly ByteRange[] | undefined>;
  progress: DiffProgress;
}

/** Reading less takes no longer than asking what changed. */
const WORTH_ASKING_BYTES = 16 * 1024 * 1024;

/** Answers what the attributes of files do not tell, as cheaply as it can. */
export class Comparer {
  readonly #parts: ComparerParts;
  #hasAsked = false;

  constructor(parts: ComparerParts) {
    this.#parts = parts;
  }

  attributes(one: Buffer, other: Buffer): Promise<AttributeDifference[]> {
    return this.#parts.comparison.attributes(one, other);
  }

  async sameContent({ one, other, sizeBytes, onDevices }: ContentPair): Promise<boolean> {
    const { comparison, progress } = this.#parts;
    if (onDevices && sizeBytes >= WORTH_ASKING_BYTES) this.#tell();
    const before = progress.bytes;
    const onRead = (bytes: number) => {
      progress.bytes = before + bytes;
    };
    return await comparison.sameContent(one, other, onDevices, onRead);
  }

  /**
   * Once, while files are being read already: an upload that is under way asks the pool the same, and may keep its turn for long.
   * Without an answer all is read, which finds the same.
   */
  #tell(): void {
    if (this.#hasAsked) return;
    this.#hasAsked = true;
    const { comparison, changes } = this.#parts;
    void changes().then(
      (ranges) => ranges && comparison.tellChanges(ranges),
      () => {},
    );
  }
}
