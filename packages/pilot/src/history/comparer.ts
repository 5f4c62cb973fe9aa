import { setTimeout as sleep } from "node:timers/promises";
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
  /** milliseconds after which a file is read although the changes are not known yet */
  patienceMs?: number;
}

/** Reading less takes no longer than asking what changed. */
const WORTH_ASKING_BYTES = 4 * 1024 * 1024;
/** An upload that is under way asks the pool the same, and may keep its turn for long. */
const PATIENCE_MS = 5_000;

/** Answers what the attributes of files do not tell, as cheaply as it can. */
export class Comparer {
  readonly #parts: ComparerParts;
  #told: Promise<void> | undefined;

  constructor(parts: ComparerParts) {
    this.#parts = parts;
  }

  attributes(one: Buffer, other: Buffer): Promise<AttributeDifference[]> {
    return this.#parts.comparison.attributes(one, other);
  }

  async sameContent({ one, other, sizeBytes, onDevices }: ContentPair): Promise<boolean> {
    const { comparison, progress, patienceMs = PATIENCE_MS } = this.#parts;
    const isWorthAsking = onDevices && sizeBytes >= WORTH_ASKING_BYTES;
    if (isWorthAsking) await settledWithin(this.#tell(), patienceMs);
    const before = progress.bytes;
    const onRead = (bytes: number) => {
      progress.bytes = before + bytes;
    };
    return await comparison.sameContent(one, other, isWorthAsking, onRead);
  }

  /** Once; what comes too late for this file is there for the next. */
  #tell(): Promise<void> {
    const { comparison, changes } = this.#parts;
    this.#told ??= changes().then(
      (ranges) => ranges && comparison.tellChanges(ranges),
      // Then all is read, which finds the same.
      () => undefined,
    );
    return this.#told;
  }
}

async function settledWithin(work: Promise<void>, ms: number): Promise<void> {
  const giveUp = new AbortController();
  await Promise.race([work, sleep(ms, undefined, { signal: giveUp.signal }).catch(() => {})]);
  giveUp.abort();
}
