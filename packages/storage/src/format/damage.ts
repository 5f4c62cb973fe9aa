import { HobError } from "@hob/protocol";

export const FORMAT_VERSION = 1;

/** The error of everything that is not what the format says. `key` is the object, `what` completes "KEY …". */
export const damaged = (key: string, what: string, cause?: unknown): HobError =>
  new HobError("data_damaged", `${key} ${what}`, {
    hint: "run `hob fsck`; it names what is damaged, and repairs it from the local copy where there is one",
    details: { object: key },
    ...(cause === undefined ? {} : { cause }),
  });

/** To catch what a read throws: an object that is larger than one of its kind may be is damaged. */
export const damagedWhenTooLarge =
  (key: string) =>
  (error: unknown): never => {
    const isTooLarge = error instanceof HobError && error.code === "payload_too_large";
    throw isTooLarge ? damaged(key, "is larger than the format allows", error) : error;
  };

export const newerVersion = (key: string, version: number): HobError =>
  new HobError("store_unsupported", `${key} has version ${version} of the storage format, this program knows ${FORMAT_VERSION}`, {
    hint: "use the version of Hob that wrote it, or a newer one",
  });

/** Whether an object begins with this magic number, whose last digit is the version. @throws HobError `store_unsupported` */
export function beginsWith(key: string, bytes: Buffer, magic: Buffer): boolean {
  const begin = bytes.subarray(0, magic.length);
  const version = begin.at(-1) ?? 0;
  const sameKind = begin.length === magic.length && begin.subarray(0, -1).equals(magic.subarray(0, -1));
  if (sameKind && version > 0x31 && version <= 0x39) throw newerVersion(key, version - 0x30);
  return sameKind && version === 0x31;
}
