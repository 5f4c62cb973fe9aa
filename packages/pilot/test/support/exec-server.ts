import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { Hono } from "hono";
import { pino } from "pino";
import { withErrorAnswers } from "../../src/api/server.ts";
import { type ExecEndpoint, JournalStore, registerExec } from "../../src/exec/index.ts";
import type { StoreOptions } from "../../src/exec/journal/index.ts";
import type { HelperClient } from "../../src/helper/index.ts";
import { PortFeed } from "../../src/ports/port-feed.ts";
import type { TestContainer } from "./container.ts";

export interface ExecServer extends AsyncDisposable {
  readonly baseURL: string;
  readonly webSocketURL: string;
  readonly endpoint: ExecEndpoint;
  /** everything that was logged */
  log(): string;
  /** what the pilot does when the container has ended */
  containerStopped(): void;
  setState(state: "running" | "stopped"): void;
}

export interface ExecServerOptions extends StoreOptions {
  /** an existing folder of journals; default: a new one, removed at the end */
  journals?: string;
}

export async function startExecServer(
  helper: HelperClient,
  container: TestContainer,
  options: ExecServerOptions = {},
): Promise<ExecServer> {
  const directory = options.journals ?? mkdtempSync(join(tmpdir(), "hob-journals-"));
  let text = "";
  let state: "running" | "stopped" = "running";
  const callbacks = new Set<() => void>();
  const sink = new Writable({
    write(chunk, _encoding, done) {
      text += chunk;
      done();
    },
  });
  const log = pino({ level: "trace" }, sink);
  const server = createServer((request, response) => {
    if (!endpoint.handle(request, response)) void listener(request, response);
  });
  const endpoint = registerExec({
    server,
    helper,
    log,
    journals: new JournalStore(directory, options),
    ports: new PortFeed({ helper, container: { state: () => state, target: () => container.target } }),
    container: {
      state: () => state,
      target: () => container.target,
      onStopped(callback) {
        callbacks.add(callback);
        return () => callbacks.delete(callback);
      },
    },
    environment: () => ({ FROM_SPRITE: "yes" }),
  });
  const listener = getRequestListener(withErrorAnswers(new Hono().route("/v1/sprites/:name", endpoint.routes), log).fetch);
  await endpoint.open();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    baseURL: `http://127.0.0.1:${port}`,
    webSocketURL: `ws://127.0.0.1:${port}/v1/sprites/test`,
    endpoint,
    log: () => text,
    containerStopped: () => {
      for (const callback of callbacks) callback();
    },
    setState: (next) => {
      state = next;
    },
    async [Symbol.asyncDispose]() {
      await endpoint.close();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
      if (options.journals === undefined) rmSync(directory, { recursive: true, force: true });
    },
  };
}
