import type { ShippedBlock } from "@hob/protocol";

/** Lines of one sprite's services on their way out of this machine. */
export interface LogBatch {
  readonly spriteId: string;
  readonly spriteName: string;
  readonly blocks: readonly ShippedBlock[];
}

/** Where logs go. A batch may come twice: after a crash, and when it is not known whether it arrived. */
export interface LogSink {
  /** Resolves when the batch is safe there. @throws when it is not; the batch is then given once more, later */
  write(batch: LogBatch): Promise<void>;
}

/** One line of a block, without its end. */
export const linesOf = ({ text }: ShippedBlock): string[] => text.replace(/\n$/, "").split("\n");
