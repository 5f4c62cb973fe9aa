import { createServer } from "node:net";
import type { Check, Finding } from "./check.ts";

const ANSWER_TIMEOUT_MS = 2_000;

/** The address that `hob serve` listens on: free, or taken by the daemon of this very home. */
export const checkPort: Check = async ({ listen, daemonUrl }) => {
  const { host, port } = listen;
  const problem = await tryListen(host, port);
  if (problem === undefined) return [{ check: "port", level: "ok", found: `${host}:${port} is free` }];
  if (problem === "EADDRINUSE" && daemonUrl !== undefined && portOf(daemonUrl) === port && (await isHob(daemonUrl))) {
    return [{ check: "port", level: "ok", found: `${host}:${port} is served by this home's daemon` }];
  }
  const finding: Finding = { check: "port", level: "fail", found: `${host}:${port} cannot be listened on (${problem})` };
  return [{ ...finding, advice: `end what uses it, or choose another: 'hob serve --listen ${host}:${port + 1}'` }];
};

/** @returns the errno when it does not work */
function tryListen(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}

/** Any answer of the API says that it is Hob: it carries the header on every one, also on refusals. */
async function isHob(url: string): Promise<boolean> {
  try {
    const answer = await fetch(new URL("/v1/sprites", url), { signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) });
    await answer.body?.cancel();
    return answer.headers.has("sprite-version");
  } catch {
    return false;
  }
}

const portOf = (url: string): number | undefined => (URL.canParse(url) ? Number(new URL(url).port) : undefined);
