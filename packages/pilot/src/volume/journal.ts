import { readFile, readlink } from "node:fs/promises";
import { basename } from "node:path";

/** Inode of a journal that ext4 keeps in its own file system. */
const JOURNAL_INODE = 8;

/**
 * Transactions that the journal of a mounted ext4 has committed since it was mounted (fs/jbd2/journal.c,
 * jbd2_seq_info_show). Each change of a file is part of one, were it only by its time; a freeze, a thaw and what reads are
 * none, although a freeze writes to the device.
 * @param device of the file system, `MAJOR:MINOR`
 */
export async function committedTransactions(device: string): Promise<number> {
  const name = basename(await readlink(`/sys/dev/block/${device}`));
  const info = await readFile(`/proc/fs/jbd2/${name}-${JOURNAL_INODE}/info`, "utf8");
  return parseTransactions(info);
}

export function parseTransactions(info: string): number {
  const [, count] = /^(\d+) transactions? /.exec(info) ?? [];
  if (count === undefined) throw new Error("read the state of a journal: it does not say how many transactions there were");
  return Number(count);
}
