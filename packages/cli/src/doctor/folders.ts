import { constants } from "node:fs";
import { access, stat, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { bytesOnDisk } from "@hob/images";
import { formatBytes } from "../output/format.ts";
import type { Check, Finding } from "./check.ts";

const GIB = 1024 ** 3;
/** Images and one build of them need this much; the sprites' own data comes on top. */
const FREE_BYTES_MIN = 6 * GIB;
const FREE_BYTES_COMFORTABLE = 10 * GIB;

/** The folders that Hob writes to: state of the sprites, and cache of the images. */
export const checkFolders: Check = async ({ home, cacheDir }) => {
  const findings = [await checkWritable("home", home, "--home or HOB_HOME"), await checkWritable("cache", cacheDir, "HOB_CACHE")];
  const homeBase = await nearestExisting(home);
  const cacheBase = await nearestExisting(cacheDir);
  findings.push(await checkSpace("disk of home", homeBase));
  if ((await stat(homeBase)).dev !== (await stat(cacheBase)).dev) findings.push(await checkSpace("disk of cache", cacheBase));
  return findings;
};

async function checkWritable(check: string, folder: string, setting: string): Promise<Finding> {
  const base = await nearestExisting(folder);
  try {
    await access(base, constants.W_OK | constants.X_OK);
    if (!(await stat(base)).isDirectory()) throw Object.assign(new Error(), { code: "ENOTDIR" });
  } catch (thrown) {
    const why = (thrown as NodeJS.ErrnoException).code ?? "unknown";
    return { check, level: "fail", found: `${base} cannot be written to (${why})`, advice: `choose another folder with ${setting}` };
  }
  if (base !== folder) return { check, level: "ok", found: `${folder} (will be made)` };
  return { check, level: "ok", found: `${folder}, ${formatBytes(await bytesOnDisk(folder))}` };
}

async function checkSpace(check: string, folder: string): Promise<Finding> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  const found = `${formatBytes(free)} free in ${folder}`;
  const amounts = `${formatBytes(FREE_BYTES_MIN)} are needed, ${formatBytes(FREE_BYTES_COMFORTABLE)} are comfortable`;
  const advice = `free some space: ${amounts}; 'hob cache prune' removes old images, 'hob gc' what no sprite has any more`;
  if (free >= FREE_BYTES_COMFORTABLE) return { check, level: "ok", found };
  return { check, level: free >= FREE_BYTES_MIN ? "warn" : "fail", found, advice };
}

/** The folder itself, or the first of its parents that exists. */
async function nearestExisting(folder: string): Promise<string> {
  try {
    await stat(folder);
    return folder;
  } catch {
    const parent = dirname(folder);
    return parent === folder ? folder : nearestExisting(parent);
  }
}
