import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Hono } from "hono";
import { pino } from "pino";
import { Activity } from "../../../../packages/pilot/src/activity/activity.ts";
import type { Endpoint } from "../../../../packages/pilot/src/api/endpoint.ts";
import { createApiServer } from "../../../../packages/pilot/src/api/server.ts";
import { ExecEndpoint, JournalStore } from "../../../../packages/pilot/src/exec/index.ts";
import { FilesEndpoint } from "../../../../packages/pilot/src/files/index.ts";
import { infoRoutes } from "../../../../packages/pilot/src/inside/info-routes.ts";
import { createInsideServer, INSIDE_LIMITS } from "../../../../packages/pilot/src/inside/server.ts";
import { LogDirectory } from "../../../../packages/pilot/src/logs/log-directory.ts";
import { AuditLog } from "../../../../packages/pilot/src/network/audit-log.ts";
import { networkLogRoutes } from "../../../../packages/pilot/src/policies/log-routes.ts";
import { InsideDialer } from "../../../../packages/pilot/src/ports/dialer.ts";
import { PortsEndpoint } from "../../../../packages/pilot/src/ports/endpoint.ts";
import { lookUpInside } from "../../../../packages/pilot/src/ports/name-lookup.ts";
import { PortFeed } from "../../../../packages/pilot/src/ports/port-feed.ts";
import { createServices, type ServiceManager, serviceRoutes } from "../../../../packages/pilot/src/services/index.ts";
import { taskRoutes } from "../../../../packages/pilot/src/tasks/routes.ts";
import { Tasks } from "../../../../packages/pilot/src/tasks/tasks.ts";
import { startContainer, type TestContainer } from "../../../../packages/pilot/test/support/container.ts";
import { type RunningHelper, startHelper, waitFor } from "../../../../packages/pilot/test/support/helper.ts";
import { ensure } from "../target.ts";

export const PILOT_TOKEN = "t".repeat(40);

/** The pilot's servers with the real helper and a real container behind them; without a volume and a network. */
export class PilotWorld implements AsyncDisposable {
  readonly helper: RunningHelper;
  readonly container: TestContainer;
  readonly port: number;
  readonly insideSocket: string;
  readonly #exec: ExecEndpoint;
  readonly #services: ServiceManager;
  readonly #cleanUp: AsyncDisposableStack;

  private constructor(
    parts: Pick<PilotWorld, "helper" | "container" | "port" | "insideSocket">,
    exec: ExecEndpoint,
    services: ServiceManager,
    cleanUp: AsyncDisposableStack,
  ) {
    this.helper = parts.helper;
    this.container = parts.container;
    this.port = parts.port;
    this.insideSocket = parts.insideSocket;
    this.#exec = exec;
    this.#services = services;
    this.#cleanUp = cleanUp;
  }

  static async start(): Promise<PilotWorld> {
    await using undo = new AsyncDisposableStack();
    const directory = mkdtempSync(join(tmpdir(), "hob-fuzz-"));
    undo.defer(() => rmSync(directory, { recursive: true, force: true }));
    const helper = undo.use(await startHelper());
    const container = undo.use(await startContainer());
    const { exec, services, endpoints } = await createEndpoints(helper, container, directory, undo);
    const log = pino({ level: "silent" });
    const server = createApiServer({ hostRoutes: new Hono(), endpoints, token: () => PILOT_TOKEN, log });
    const insideSocket = join(directory, "api.sock");
    await listen(server, 0, undo);
    await listen(createInsideServer(endpoints, log, { ...INSIDE_LIMITS, checkIntervalMs: 200 }), insideSocket, undo);
    const { port } = server.address() as AddressInfo;
    return new PilotWorld({ helper, container, port, insideSocket }, exec, services, undo.move());
  }

  /** Ends what requests have left running, and counts what the helper still has under way. */
  async settle(): Promise<number> {
    for (const session of this.#exec.sessions.list()) session.process.close();
    for (const { name } of this.#services.list()) await this.#services.remove(name);
    await waitFor(() => this.#exec.sessions.size === 0 && this.#helperChildren() === 0, "the end of what was under way", 30_000).catch(
      () => {},
    );
    ensure(this.helper.process.exitCode === null && this.helper.process.signalCode === null, () => "the helper has ended");
    ensure(this.helper.stderr() === "", () => `the helper says: ${this.helper.stderr().slice(0, 2_000)}`);
    return this.#exec.sessions.size + this.#helperChildren();
  }

  #helperChildren(): number {
    const { pid } = this.helper.process;
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).length;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#cleanUp.disposeAsync();
  }
}

async function createEndpoints(helper: RunningHelper, { target }: TestContainer, directory: string, undo: AsyncDisposableStack) {
  const { client } = helper;
  const log = pino({ level: "silent" });
  const container = { state: () => "running" as const, target: () => target, onStopped: () => () => {} };
  const environment = () => ({ FROM_SPRITE: "yes" });
  const feed = new PortFeed({ helper: client, container });
  const activity = new Activity();
  const exec = new ExecEndpoint({
    helper: client,
    container,
    log,
    journals: new JournalStore(join(directory, "journals")),
    ports: feed,
    environment,
  });
  await exec.open();
  undo.defer(() => exec.close());
  const logs = new LogDirectory(join(directory, "logs"));
  const services = createServices({ helper: client, container, environment, log, definitions: join(directory, "services"), logs });
  await services.containerStarted();
  undo.defer(() => services.containerStopped());
  undo.defer(() => services.containerStopping());
  const files = new FilesEndpoint({ helper: client, log, container });
  undo.defer(() => files.close());
  const dialer = new InsideDialer({ helper: client, container, lookUp: lookUpInside(client, container), ownNames: () => ["box"] });
  const both = (routes: Hono): Endpoint => ({ routes, inside: routes });
  const endpoints: Endpoint[] = [
    exec,
    files,
    new PortsEndpoint({ feed, dialer, activity }),
    both(serviceRoutes(services)),
    both(taskRoutes(new Tasks(join(directory, "tasks.json"), activity))),
    { inside: infoRoutes({ identity: undefined }) },
    { routes: networkLogRoutes(new AuditLog(join(directory, "audit"))) },
  ];
  return { exec, services, endpoints };
}

async function listen(server: Server, where: number | string, undo: AsyncDisposableStack): Promise<void> {
  await new Promise<void>((resolve) =>
    typeof where === "string" ? server.listen(where, resolve) : server.listen(where, "127.0.0.1", resolve),
  );
  undo.defer(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  });
}
