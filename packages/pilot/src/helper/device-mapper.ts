import { type ByteRange, encodeRange } from "./byte-range.ts";
import { encodeFrame, ItemWriter } from "./frames.ts";
import { REQUEST, TAG } from "./wire.ts";

/** One target of a device's table, units of 512 bytes. */
export interface DmTarget {
  readonly start: number;
  readonly sectors: number;
  /** such as `thin` or `thin-pool` */
  readonly type: string;
  readonly parameters: string;
}

const OP = { create: 1, reload: 2, suspend: 3, resume: 4, remove: 5, message: 6, status: 7, list: 8, snapshot: 9, discard: 10 } as const;
const FLAG = { noFlush: 1, skipLockFs: 2, readOnly: 4, deferred: 8, table: 16 } as const;

const start = (op: keyof typeof OP, name?: string): ItemWriter => {
  const items = new ItemWriter().u32(TAG.dmOp, OP[op]);
  return name === undefined ? items : items.text(TAG.dmName, name);
};

const finish = (items: ItemWriter): Buffer => encodeFrame(REQUEST.deviceMapper, items.finish());

function withTable(items: ItemWriter, table: readonly DmTarget[]): ItemWriter {
  for (const { start: first, sectors, type, parameters } of table) {
    const head = Buffer.alloc(16);
    head.writeBigUInt64LE(BigInt(first), 0);
    head.writeBigUInt64LE(BigInt(sectors), 8);
    items.bytes(TAG.dmTarget, Buffer.concat([head, Buffer.from(`${type} ${parameters}\0`, "utf8")]));
  }
  return items;
}

function withRanges(items: ItemWriter, ranges: readonly ByteRange[]): ItemWriter {
  for (const range of ranges) items.bytes(TAG.dmRange, encodeRange(range));
  return items;
}

export const encodeDm = {
  create: (name: string, table: readonly DmTarget[], readOnly: boolean) =>
    finish(withTable(start("create", name).u32(TAG.dmFlags, readOnly ? FLAG.readOnly : 0), table)),
  /** does not wait for what the old table has under way */
  replace: (name: string, table: readonly DmTarget[]) =>
    finish(withTable(start("reload", name).u32(TAG.dmFlags, FLAG.noFlush | FLAG.skipLockFs), table)),
  resume: (name: string) => finish(start("resume", name)),
  remove: (name: string, deferred: boolean) => finish(start("remove", name).u32(TAG.dmFlags, deferred ? FLAG.deferred : 0)),
  message: (name: string, text: string) => finish(start("message", name).text(TAG.dmMessage, text)),
  status: (name: string) => finish(start("status", name)),
  list: () => finish(start("list")),
  discard: (name: string, ranges: readonly ByteRange[]) => finish(withRanges(start("discard", name), ranges)),
  snapshot: (pool: string, message: string, origin: string, mountPoint: string) =>
    finish(start("snapshot", pool).text(TAG.dmMessage, message).text(TAG.dmOrigin, origin).text(TAG.path, mountPoint)),
};

export interface DmStatus {
  readonly openCount: number;
  readonly suspended: boolean;
  readonly readOnly: boolean;
  /** `MAJOR:MINOR` */
  readonly device: string;
  /** of each target: type, then what the target reports */
  readonly targets: readonly { readonly type: string; readonly status: string }[];
}

/** The answer to `status`: a line of the device, then one of each target. */
export function parseDmStatus(text: string): DmStatus {
  const [head = "", ...lines] = text.trimEnd().split("\n");
  const fields = new Map(head.split(" ").map((field) => field.split("=", 2) as [string, string]));
  return {
    openCount: Number(fields.get("open")),
    suspended: fields.get("suspended") === "1",
    readOnly: fields.get("readonly") === "1",
    device: fields.get("device") ?? "",
    targets: lines.map((line) => {
      const [, , type = "", ...status] = line.split(" ");
      return { type, status: status.join(" ") };
    }),
  };
}
