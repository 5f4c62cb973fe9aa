import { isIP } from "node:net";
import { HobError } from "@hob/protocol";
import { SPRITE_USER } from "../container/ids.ts";
import { DEFAULT_PATH } from "../container/spec.ts";
import type { ExecContainer } from "../exec/index.ts";
import type { HelperClient } from "../helper/index.ts";

const TIMEOUT_MS = 5_000;
const OUTPUT_BYTES_MAX = 64 * 1024;
const ADDRESSES_MAX = 8;
/** RFC 1123 section 2.1, with the underscore that is met in practice. It begins as no option of a program does. */
const HOST_NAME = /^[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?$/;

/** Addresses of a name. @throws HobError `host_unreachable` | `helper_unreachable` */
export type NameLookup = (name: string) => Promise<string[]>;

/**
 * Looks a name up as a program inside would: by the sprite's own /etc/hosts, nsswitch.conf and resolver, so under its
 * network policy too. getent(1) is the sprite's, and so is whatever it says: it is used for nothing but to connect inside.
 */
export const lookUpInside =
  (helper: Pick<HelperClient, "exec">, container: ExecContainer): NameLookup =>
  async (name) => {
    const unknown = new HobError("host_unreachable", `look up ${JSON.stringify(name)} inside the sprite: no such name`);
    if (!HOST_NAME.test(name)) throw unknown;
    const process = await helper.exec({
      argv: ["getent", "ahosts", name],
      env: { PATH: DEFAULT_PATH },
      cwd: "/",
      uid: SPRITE_USER.uid,
      gid: SPRITE_USER.gid,
      target: container.target(),
    });
    const timer = setTimeout(() => process.close(), TIMEOUT_MS);
    let text = "";
    process.start({
      stdout: (chunk) => {
        text += chunk.toString("latin1");
        if (text.length > OUTPUT_BYTES_MAX) process.close();
      },
      stderr: () => {},
    });
    process.end();
    await process.exited.catch(() => {});
    clearTimeout(timer);
    const found = parseAhosts(text);
    if (found.length === 0) throw unknown;
    return found;
  };

/** First words of getent's lines that are addresses, each once. */
export const parseAhosts = (text: string): string[] => {
  const words = text.split("\n").map((line) => /^\S+/.exec(line)?.[0] ?? "");
  return [...new Set(words.filter((word) => isIP(word) !== 0 && !word.includes("%")))].slice(0, ADDRESSES_MAX);
};
