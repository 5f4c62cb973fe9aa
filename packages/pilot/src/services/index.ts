import type { Logger } from "pino";
import type { ExecContainer } from "../exec/index.ts";
import type { HelperClient } from "../helper/index.ts";
import type { LogDirectory } from "../logs/log-directory.ts";
import { isListening } from "./listening.ts";
import { ServiceManager } from "./manager.ts";
import { ContainerLauncher } from "./process.ts";
import { ServiceStore } from "./store.ts";
import { SYSTEM_TIMERS } from "./timers.ts";

export { type Operation, ServiceManager } from "./manager.ts";
export { serviceRoutes } from "./routes.ts";

export interface ServicesParts {
  readonly helper: Pick<HelperClient, "exec" | "killCgroup">;
  readonly container: ExecContainer;
  readonly environment: () => Readonly<Record<string, string>>;
  readonly log: Pick<Logger, "info" | "warn">;
  /** folder of the definitions */
  readonly definitions: string;
  readonly logs: LogDirectory;
}

/** The services of the container, wired; nothing runs before `containerStarted`. */
export function createServices({ helper, container, environment, log, definitions, logs }: ServicesParts): ServiceManager {
  return new ServiceManager({
    store: new ServiceStore(definitions),
    logs,
    launcher: new ContainerLauncher({ helper, container, environment }),
    timers: SYSTEM_TIMERS,
    isListening: async (port) => container.state() === "running" && isListening(container.target().initPid, port),
    log,
  });
}
