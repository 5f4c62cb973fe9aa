import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Sprite, SpritesClient } from "@fly/sprites";
import { getRequestListener } from "@hono/node-server";
import { Hono } from "hono";
import { pino } from "pino";
import { withErrorAnswers } from "../../src/api/server.ts";
import type { HelperClient } from "../../src/helper/index.ts";
import { LogDirectory } from "../../src/logs/log-directory.ts";
import { createServices, type ServiceManager, serviceRoutes } from "../../src/services/index.ts";
import type { TestContainer } from "./container.ts";

export interface ServicesServer extends AsyncDisposable {
  readonly url: string;
  readonly sprite: Sprite;
  readonly services: ServiceManager;
  /** folder of definitions and logs */
  readonly folder: string;
  setState(state: "running" | "stopped"): void;
}

/** The services of a test container behind a port, as the pilot serves them. @param folder of one before; default: a new one */
export async function startServicesServer(helper: HelperClient, container: TestContainer, folder?: string): Promise<ServicesServer> {
  const directory = folder ?? mkdtempSync(join(tmpdir(), "hob-services-"));
  let state: "running" | "stopped" = "running";
  const log = pino({ level: "silent" });
  const services = createServices({
    helper,
    container: { state: () => state, target: () => container.target, onStopped: () => () => {} },
    environment: () => ({ FROM_SPRITE: "yes" }),
    log,
    definitions: join(directory, "definitions"),
    logs: new LogDirectory(join(directory, "logs/services")),
  });
  const app = withErrorAnswers(new Hono(), log).route("/v1/sprites/:name", serviceRoutes(services));
  const server = createServer(getRequestListener(app.fetch)).listen(0, "127.0.0.1");
  await once(server, "listening");
  await services.containerStarted();
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: `${url}/v1/sprites/test`,
    sprite: new SpritesClient("token", { baseURL: url }).sprite("test"),
    services,
    folder: directory,
    setState: (next) => {
      state = next;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await services.containerStopping();
      await services.containerStopped();
      if (folder === undefined) rmSync(directory, { recursive: true, force: true });
    },
  };
}
