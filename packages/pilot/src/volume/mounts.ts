import { readFile } from "node:fs/promises";

/** Mount points of this namespace, in the order in which they were mounted; proc_pid_mounts(5). */
export async function mountPoints(): Promise<string[]> {
  const text = await readFile("/proc/self/mounts", "utf8");
  return text.split("\n").flatMap((line) => {
    const point = line.split(" ")[1];
    return point === undefined ? [] : [point];
  });
}

export const isMounted = async (path: string): Promise<boolean> => (await mountPoints()).includes(path);
