import { HobError } from "@hob/protocol";

/** A run of blocks of the pool, counted from the beginning of the volume. */
export interface ChangedRange {
  readonly begin: number;
  readonly length: number;
  /** false: the blocks hold nothing any more (discarded), and read as zeros */
  readonly mapped: boolean;
}

/** Longest tag that the tools write is well below this; more without an end is not their output. */
const PENDING_BYTES_MAX = 64 * 1024;

const ELEMENT = /^<(different|left_only|right_only|single_mapping|range_mapping)\s([^>]*)$/;

/**
 * Reads the XML of thin_delta(8) and thin_dump(8) as it arrives. Of a delta it takes what is not the same on both
 * sides, of a dump every mapping.
 */
export class ThinXmlReader {
  #pending = "";
  #complete = false;

  /** whether the document has come to its end */
  get complete(): boolean {
    return this.#complete;
  }

  /** @returns the ranges in these bytes @throws HobError `internal` if it is not such a document */
  push(text: string): ChangedRange[] {
    const ranges: ChangedRange[] = [];
    const parts = (this.#pending + text).split(">");
    this.#pending = parts.pop() ?? "";
    if (this.#pending.length > PENDING_BYTES_MAX) throw malformed("a tag without an end");
    for (const part of parts) {
      const tag = part.trimStart();
      if (tag === "</superblock") this.#complete = true;
      const range = rangeOf(tag);
      if (range !== undefined) ranges.push(range);
    }
    return ranges;
  }
}

function rangeOf(tag: string): ChangedRange | undefined {
  const [, element, rest = ""] = ELEMENT.exec(tag) ?? [];
  if (element === undefined) return undefined;
  const attributes = new Map([...rest.matchAll(/\b(\w+)="(\d+)"/g)].map(([, name = "", value]) => [name, Number(value)]));
  const begin = attributes.get("begin") ?? attributes.get("origin_begin") ?? attributes.get("origin_block");
  const length = attributes.get("length") ?? (element === "single_mapping" ? 1 : undefined);
  if (begin === undefined || length === undefined || length === 0) throw malformed(`<${tag.slice(0, 100)}>`);
  return { begin, length, mapped: element !== "left_only" };
}

const malformed = (what: string): HobError => new HobError("internal", `read the changes between snapshots: unexpected ${what}`);
