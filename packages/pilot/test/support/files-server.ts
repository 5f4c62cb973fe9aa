import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { SpriteFilesystem, SpritesClient } from "@fly/sprites";
import { Hono } from "hono";
import { pino } from "pino";
import { createApiServer } from "../../src/api/server.ts";
import { FilesEndpoint } from "../../src/files/index.ts";
import type { HelperClient } from "../../src/helper/index.ts";
import type { TestContainer } from "./container.ts";

const TOKEN = "a-token-of-a-test-of-the-files-endpoint";

export interface FilesServer extends AsyncDisposable {
  /** a request relative to `/fs/` */
  fetch(target: string, init?: RequestInit): Promise<Response>;
  /** the published SDK */
  sdk(workingDir?: string): SpriteFilesystem;
  readonly baseURL: string;
  readonly authorization: string;
  readonly webSocketURL: string;
}

/** The pilot's port with the files of a container behind it, and nothing else. */
export async function startFilesServer(helper: HelperClient, container: TestContainer): Promise<FilesServer> {
  const log = pino({ level: "silent" });
  const endpoint = new FilesEndpoint({ helper, log, container: { state: () => "running", target: () => container.target } });
  const server = createApiServer({ hostRoutes: new Hono(), endpoints: [endpoint], token: () => TOKEN, log });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const baseURL = `http://127.0.0.1:${port}`;
  const authorization = `Bearer ${TOKEN}`;
  return {
    baseURL,
    authorization,
    webSocketURL: `ws://127.0.0.1:${port}/v1/sprites/box/fs/watch`,
    fetch: (target, init = {}) => fetch(`${baseURL}/v1/sprites/box/fs/${target}`, { ...init, headers: { authorization, ...init.headers } }),
    sdk: (workingDir) => new SpriteFilesystem(new SpritesClient(TOKEN, { baseURL }), "box", workingDir),
    async [Symbol.asyncDispose]() {
      endpoint.close();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
