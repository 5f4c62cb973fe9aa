import { HobError } from "@hob/protocol/errors.ts";

export interface PortMapping {
  /** 0 picks a free one */
  local: number;
  remote: number;
}

/** `PORT` or `LOCAL:PORT`. @throws HobError `usage` */
export function parsePortMapping(text: string): PortMapping {
  const [, local, remote] = /^(?:(\d{1,5}):)?(\d{1,5})$/.exec(text) ?? [];
  const mapping = { local: Number(local ?? remote), remote: Number(remote) };
  if (remote === undefined || mapping.remote < 1 || mapping.remote > 65_535 || mapping.local > 65_535) {
    throw new HobError("usage", `'${text}' is not PORT or LOCAL:PORT`, { hint: "such as 8080, or 3000:8080" });
  }
  return mapping;
}

/** `HOST:PORT`, `[IPv6]:PORT`, `:PORT` or `PORT`; without a host it is the sprite itself. @throws HobError `usage` */
export function parseTarget(text: string): { host: string; port: number } {
  const [, v6, host, port] = /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):)?(\d{1,5})$/.exec(text) ?? [];
  if (port === undefined || Number(port) < 1 || Number(port) > 65_535) {
    throw new HobError("usage", `'${text}' is not HOST:PORT`, { hint: "such as localhost:22, or :5432 for the sprite itself" });
  }
  return { host: v6 ?? (host || "localhost"), port: Number(port) };
}
