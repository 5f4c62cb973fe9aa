/**
 * Writer of a "newc" cpio archive, the format of an initramfs
 * (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).
 * Our own because device nodes go in without root, and equal input gives equal bytes: no times, owners or inode
 * numbers of the build machine.
 */
export interface InitramfsEntry {
  /** without a leading slash */
  path: string;
  kind: "file" | "directory" | "character-device";
  /** permission bits */
  mode: number;
  data?: Uint8Array;
  /** of a character device */
  major?: number;
  minor?: number;
}

const FILE_TYPE = { file: 0o100000, directory: 0o040000, "character-device": 0o020000 } as const;

export function buildInitramfs(entries: readonly InitramfsEntry[]): Buffer {
  const parts = entries.flatMap((entry, index) => encodeEntry(entry, index + 1));
  return Buffer.concat([...parts, ...encodeEntry({ path: "TRAILER!!!", kind: "file", mode: 0 }, 0, 0)]);
}

function encodeEntry(entry: InitramfsEntry, inode: number, mode = FILE_TYPE[entry.kind] | entry.mode): Buffer[] {
  const data = entry.data ?? new Uint8Array();
  const name = Buffer.from(`${entry.path}\0`);
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, entry.major ?? 0, entry.minor ?? 0, name.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
  return [header, name, padding(header.length + name.length), Buffer.from(data), padding(data.length)];
}

/** Names and data are padded to multiples of four bytes. */
const padding = (length: number): Buffer => Buffer.alloc((4 - (length % 4)) % 4);
