import { SPRITE_USER } from "../container/ids.ts";

/**
 * The path that the kernel will resolve inside the container. This joins text and decides nothing: `..` and symbolic links
 * are the kernel's. Slashes and dots without a meaning are left out, so that answers show tidy paths.
 */
export function absolutePath(path: string, workingDir: string | null | undefined): string {
  const base = join(SPRITE_USER.home, workingDir ?? "");
  const joined = join(base, path);
  const parts = joined.split("/").filter((part) => part !== "" && part !== ".");
  const slash = joined.endsWith("/") && parts.length > 0 ? "/" : "";
  return `/${parts.join("/")}${slash}`;
}

const join = (base: string, path: string): string => (path.startsWith("/") ? path : `${base}/${path}`);

/** A path below another, as an answer shows it. @param relative "" is the path itself */
export const pathBelow = (path: string, relative: string): string =>
  relative === "" ? withoutSlash(path) : `${path.endsWith("/") ? path : `${path}/`}${relative}`;

export const withoutSlash = (path: string): string => (path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path);

export const lastPart = (path: string): string => {
  const bare = withoutSlash(path);
  return bare.slice(bare.lastIndexOf("/") + 1) || "/";
};
