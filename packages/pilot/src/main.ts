import { once } from "node:events";
import { createApiServer } from "./api/server.ts";
import { PATHS } from "./config.ts";
import { PilotContext } from "./context.ts";
import { hostApi } from "./host-api/routes.ts";
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

let isStarted = false;
const isUp = () => isStarted;

const server = createApiServer({
  hostRoutes: hostApi({
    ...context,
    uptimeMs: context.uptimeMs,
    sync: () => context.helper.sync(),
    isUnsettled: () => context.isUnsettled(),
    settle: (waitMs) => context.settle(waitMs),
    shutDown,
    isUp,
  }),
  endpoints: context.endpoints,
  token: () => context.sprite.token,
  isUp,
  seenFile: PATHS.seenRequests,
  log,
});

// The host reads this on the console, and asks nothing before. A volume that needs the object store cannot wait for the end
// of the start: the way there is a connection that the host makes.
let announced = false;
function announce(): void {
  if (!announced) log.info({ uptimeMs: process.uptime() * 1000 }, "pilot listens");
  announced = true;
}

context.storage.onNeeded = announce;
await context.start(async () => {
  server.listen(config.listen.port, config.listen.host);
  await once(server, "listening");
});
isStarted = true;
announce();
