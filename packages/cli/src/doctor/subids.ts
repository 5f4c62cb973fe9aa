import { readFile } from "node:fs/promises";
import type { Check, Finding } from "./check.ts";

/** Ids that a root file system of Debian needs: 0 to 65535. */
const COUNT_MIN = 65_536;

/** Ranges of ids that an ordinary user may map into a user namespace, subuid(5). Root needs none. */
export const checkSubids: Check = async ({ userId, userName, files }) => {
  if (userId === 0) return [];
  return Promise.all([checkFile("subuid", files.subuid), checkFile("subgid", files.subgid)]);

  async function checkFile(check: string, path: string): Promise<Finding> {
    const text = await readFile(path, "utf8").catch(() => "");
    const range = text.split("\n").find((line) => isRangeFor(line, [userName, String(userId)]));
    if (range !== undefined) return { check, level: "ok", found: range };
    const option = check === "subuid" ? "--add-subuids" : "--add-subgids";
    return {
      check,
      level: "fail",
      found: `${path} gives ${userName} no range of ${COUNT_MIN} ids`,
      advice: `as root: usermod ${option} 100000-165535 ${userName}`,
    };
  }
};

function isRangeFor(line: string, owners: readonly string[]): boolean {
  const [owner, , count] = line.split(":");
  return owner !== undefined && owners.includes(owner) && Number(count) >= COUNT_MIN;
}
