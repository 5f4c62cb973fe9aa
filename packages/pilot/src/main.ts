import { createServer } from "node:http";
import { SystemCommandRunner } from "@hob/linux";
import { HobError, LIMITS } from "@hob/protocol";
import { getRequestListener } from "@hono/node-server";
import { PATHS } from "./config.ts";
import { PilotContext } from "./context.ts";
import { ExecEndpoint, refuseUpgrade } from "./exec/index.ts";
import { diagnostics } from "./host-api/diagnostics.ts";
import { addErrorHandling, hostApi, isFromHost } from "./host-api/routes.ts";
import { BOOT_CONFIG_DISK, readBootConfig } from "./microvm/boot-config.ts";
import { microVm } from "./microvm/platform.ts";

const SHUTDOWN_TIMEOUT_MS = 15_000;

const config = await readBootConfig(BOOT_CONFIG_DISK);
const context = new PilotContext(config, microVm(config));
const { log } = context;

// PID 1 powers the VM off when it gets SIGTERM and the pilot has ended.
let stopping = false;
function shutDown(): void {
  if (stopping) return;
  stopping = true;
  setTimeout(() => process.exit(1), SHUTDOWN_TIMEOUT_MS).unref();
  context.stop().then(
    () => process.kill(1, "SIGTERM"),
    (error: unknown) => {
      log.error({ err: error }, "stop");
      process.kill(1, "SIGTERM");
    },
  );
}

const app = hostApi({ ...context, log, uptimeMs: context.uptimeMs, sync: () => context.helper.sync(), shutDown });
app.route("/", diagnostics(new SystemCommandRunner(), PATHS.crunState));
addErrorHandling(app, log);
const exec = new ExecEndpoint({ ...context, log, environment: () => context.sprite.identity?.environment ?? {} });
const listener = getRequestListener(app.fetch);
// Commands and environments travel in request targets of up to LIMITS.requestTargetBytes; uploads may take any time.
const server = createServer({ requestTimeout: 0, maxHeaderSize: LIMITS.requestTargetBytes + 64 * 1024 }, (request, response) => {
  if (!isFromHost(request, context.sprite.token)) return void response.writeHead(401).end();
  if (!exec.handle(request, response)) void listener(request, response);
});
server.on("upgrade", (request, socket, head) => {
  if (!isFromHost(request, context.sprite.token)) return refuseUpgrade(socket, new HobError("unauthorized", "upgrade: not from the host"));
  if (!exec.upgrade(request, socket, head)) refuseUpgrade(socket, new HobError("not_found", "upgrade: no such route"));
});

await context.start();
server.listen(config.listen.port, config.listen.host, () => log.info({ uptimeMs: process.uptime() * 1000 }, "pilot listens"));
