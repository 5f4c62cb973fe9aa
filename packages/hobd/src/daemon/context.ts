import { totalmem } from "node:os";
import { HOB_VERSION, type HobError, MACHINE_LIMITS } from "@hob/protocol";
import type { Logger } from "pino";
import { CatchUp } from "../activity/catch-up.ts";
import { diskIsShort } from "../activity/disk-room.ts";
import { Sleeper } from "../activity/sleeper.ts";
import { SpriteUses } from "../activity/use.ts";
import { createApi } from "../api/api.ts";
import { CapacityGate, defaultMaxRunning } from "../api/capacity.ts";
import { CreateRate } from "../api/create-rate.ts";
import { SpriteCreator } from "../api/create-sprite.ts";
import { SpriteDestroyer } from "../api/destroy-sprite.ts";
import { recoverSprites, startHousekeeping } from "../api/housekeeping.ts";
import { spriteUrlOf } from "../api/present.ts";
import { type SpriteContext, SpriteEvents } from "../api/sprite-context.ts";
import { FrontDoor } from "../front-door/front-door.ts";
import { createPilotLocator, createPilotRequester } from "../front-door/pilot-locator.ts";
import { Upstream, type UpstreamTimes } from "../front-door/upstream.ts";
import { UrlAccess } from "../ingress/access.ts";
import { ApplicationExchange } from "../ingress/exchange.ts";
import { Ingress } from "../ingress/ingress.ts";
import { OwnRoutes } from "../ingress/own-routes.ts";
import { SignIn } from "../ingress/sign-in.ts";
import { LogShipping } from "../log-shipping/log-shipping.ts";
import { openSink } from "../log-shipping/sink-address.ts";
import { SpriteCatalogue } from "../object-store/catalogue.ts";
import type { SpriteStorage } from "../object-store/sprite-storage.ts";
import type { WatchedStore, WatchTimes } from "../object-store/watched-store.ts";
import { HistoryReaders } from "../readers/history-readers.ts";
import { RestAnswers } from "../readers/rest-answers.ts";
import type { Registry } from "../registry/registry.ts";
import { openSqliteRegistry } from "../registry/sqlite-registry.ts";
import { bounded } from "../runtime/bounded.ts";
import type { SpriteRuntime } from "../runtime/sprite-runtime.ts";
import { Authenticator } from "../tokens/authenticator.ts";
import { cacheKeepMs, type DaemonConfig, localUrl } from "./config.ts";
import { ensureFirstToken } from "./first-token.ts";
import { ensureUrlKey, type HomeLayout, homeLayout, prepareHome, removeDaemonInfo, writeDaemonInfo } from "./home.ts";
import { lockHome } from "./home-lock.ts";
import { HttpServer } from "./http-server.ts";
import { createLogger, RotatingFile } from "./log.ts";
import { openStorage } from "./open-storage.ts";
import { TlsListener } from "./tls-listener.ts";

/** Milliseconds that creates under way and the runtime have when the daemon stops. */
const CREATES_STOP_MS = 10_000;
const RUNTIME_STOP_MS = 30_000;
/** One that is just being started ends when it has. */
const READERS_STOP_MS = 20_000;
const CATCH_UP_STOP_MS = 5_000;
/** A batch that is on its way to the sink may arrive. */
const SHIPPING_STOP_MS = 5_000;
/** Settings that were changed a moment ago may not be in the store's description yet. */
const DESCRIBE_STOP_MS = 5_000;

/** What a runtime is made from. */
export interface RuntimeContext {
  /** one directory per sprite, named by its id, belongs to the runtime */
  spritesDirectory: string;
  home: HomeLayout;
  /** where sprites' data is kept for good */
  storage: SpriteStorage;
  /** images in the cache that nobody used for this long are removed; Infinity: never */
  cacheKeepMs: number;
  log: Logger;
}

export interface DaemonOverrides {
  createRuntime: (context: RuntimeContext) => SpriteRuntime | Promise<SpriteRuntime>;
  /** where credentials of the object store are looked for; default: nothing */
  environment?: Readonly<Record<string, string | undefined>>;
  /** Unix milliseconds */
  now?: () => number;
  /** how long requests wait for pilots */
  upstreamTimes?: Partial<UpstreamTimes>;
  /** how long the object store is waited for */
  storeTimes?: Partial<WatchTimes>;
  /** memory of the host, bytes; decides how many sprites may run when the configuration does not */
  hostMemoryBytes?: number;
}

/** A daemon that answers. */
export interface Daemon {
  readonly url: string;
  /** where it answers with TLS; undefined without */
  readonly tlsUrl: string | undefined;
  /** the token in HOME/token; undefined when it has been revoked */
  readonly token: string | undefined;
  readonly home: HomeLayout;
  readonly log: Logger;
  /** what is wrong with the object store now; undefined: nothing, as far as is known */
  readonly storeProblem: HobError | undefined;
  /** Reads the certificate anew. What is wrong with it is logged, and the one before stays. */
  reload(): void;
  /** Stops accepting, ends sessions, saves the VMs, closes the registry; bounded. Later calls give the same promise. */
  stop(): Promise<void>;
}

/**
 * Starts a daemon: the one place where its parts are put together. Whatever has been started is undone, last first,
 * when a later step fails, and by `stop`.
 * @throws HobError `home_locked` | `home_unusable` | `no_space` | `registry_unusable` | `address_in_use` | what the runtime and the
 *   object store throw; one that does not answer is waited for when it was used before
 */
export async function startDaemon(config: DaemonConfig, overrides: DaemonOverrides): Promise<Daemon> {
  const now = overrides.now ?? Date.now;
  const home = homeLayout(config.home);
  await using undo = new AsyncDisposableStack();
  const { log, registry } = openHome(home, config, undo);
  const server = new HttpServer(log, config.domain);
  undo.defer(() => server.stop());
  const listening = await server.listen(config.listen);
  const tls =
    config.tls === undefined ? undefined : undo.use(await TlsListener.start(server, config.tls, { domain: config.domain, log, now }));
  const url = localUrl(listening);
  const token = await ensureFirstToken(home, registry.tokens, now, log);
  // From here on the CLI finds this daemon; what it asks is held until the sprites are recovered.
  writeDaemonInfo(home, { pid: process.pid, url, version: HOB_VERSION, started_at: new Date(now()).toISOString() });
  const { storage, store } = await openStorage({ home, config, overrides, log, undo });
  const runtime = await overrides.createRuntime({ spritesDirectory: home.sprites, home, storage, cacheKeepMs: cacheKeepMs(config), log });
  const urlOf = spriteUrlOf(config.domain, tls?.address.port ?? listening.port, tls === undefined ? "http" : "https");
  const limit = runningLimit(config, overrides);
  const catalogue = new SpriteCatalogue(storage, log);
  const context = spriteContext({ registry, runtime, catalogue, urlOf, log, now, limit, createRate: config.createRate });
  const sleeper = createSleeper(context, config, home);
  const readers = new HistoryReaders(context, storage, config);
  const catchUp = createCatchUp(context, storage, sleeper);
  // A reader that nobody uses goes before a sprite has to sleep, and what the daemon does for itself before what others do.
  context.gate.makeRoom = async () => {
    if (await readers.makeRoom()) return true;
    await catchUp.giveWay();
    return sleeper.makeRoom();
  };
  const signIn = new SignIn(ensureUrlKey(home), now);
  const { upstreamTimes } = overrides;
  await startParts({ context, storage, store, sleeper, catchUp, readers, server, registry, undo, signIn, upstreamTimes });
  if (config.logSink !== undefined) {
    const shipping = new LogShipping(context, openSink(config.logSink, log), home.logCursors);
    undo.defer(() => bounded(shipping.stop(), SHIPPING_STOP_MS, { what: "end the shipping of logs", log }));
    await shipping.start();
  }
  log.info({ url, tls: tls?.address, version: HOB_VERSION, maxRunning: context.gate.limit }, "hobd is up");
  const running = undo.move();
  let stopped: Promise<void> | undefined;
  return {
    ...{ url, tlsUrl: tls?.url, token, home, log },
    get storeProblem() {
      return store.problem;
    },
    reload: () => tls?.reload(),
    stop: () => (stopped ??= stopDaemon(running, log)),
  };
}

/** Lock first: nothing is written into a directory that another daemon uses. */
function openHome(home: HomeLayout, config: DaemonConfig, undo: AsyncDisposableStack): { log: Logger; registry: Registry } {
  prepareHome(home);
  undo.use(lockHome(home));
  // What a killed daemon left; and this one's own at the end.
  removeDaemonInfo(home);
  undo.defer(() => removeDaemonInfo(home));
  const file = undo.adopt(new RotatingFile(home.log), (log) => log.close());
  const log = createLogger(config.logLevel, file);
  return { log, registry: undo.use(openSqliteRegistry(home.database)) };
}

const runningLimit = (config: DaemonConfig, { hostMemoryBytes = totalmem() }: DaemonOverrides): number =>
  config.maxRunning ?? defaultMaxRunning(hostMemoryBytes, MACHINE_LIMITS.ramMb.default);

function spriteContext(
  parts: Pick<SpriteContext, "runtime" | "catalogue" | "urlOf" | "log" | "now"> & { registry: Registry; limit: number; createRate: number },
): SpriteContext {
  const { registry, runtime, catalogue, urlOf, log, now, limit } = parts;
  const { sprites } = registry;
  const gate = new CapacityGate(limit, async () => (await sprites.listReadyIds()).filter((id) => runtime.status(id) === "running"));
  const createRate = new CreateRate(parts.createRate, now);
  const context: SpriteContext = {
    ...{ sprites, runtime, catalogue, gate, createRate, urlOf, log, now },
    uses: new SpriteUses(now),
    events: new SpriteEvents(),
  };
  context.events.subscribe(({ type, id }) => {
    if (type === "updated")
      void describeAgain(context, id).catch((err) => log.error({ sprite: id, err }, "the store's description is old"));
  });
  runtime.onStatusChange((id, status) => {
    gate.notify();
    void noteStatus(context, id, status).catch((error) => log.error({ sprite: id, err: error }, "status is not recorded"));
  });
  return context;
}

async function describeAgain({ sprites, catalogue }: SpriteContext, id: string): Promise<void> {
  const record = await sprites.findById(id);
  if (record?.state === "ready") await catalogue.describe(record);
}

function createSleeper(context: SpriteContext, config: DaemonConfig, home: HomeLayout): Sleeper {
  const { idleTimeoutSeconds, coldAfterSeconds } = config;
  const sleeper = new Sleeper(context, { idleTimeoutSeconds, coldAfterSeconds, diskIsShort: () => diskIsShort(home.directory) });
  context.runtime.onStatusChange((id, status) => sleeper.noteStatus(id, status));
  context.events.subscribe(({ type, id }) => type === "deleted" && sleeper.forget(id));
  return sleeper;
}

function createCatchUp(context: SpriteContext, storage: SpriteStorage, sleeper: Sleeper): CatchUp {
  const { runtime, events, uses, log } = context;
  const catchUp = new CatchUp({ context, storage, sleeper, pilot: createPilotRequester(createPilotLocator(context), uses) });
  runtime.onStatusChange((id, status) => {
    catchUp.noteStatus(id, status).catch((err) => log.error({ sprite: id, err }, "it is not known what the object store lacks"));
  });
  events.subscribe(({ type, id }) => type === "deleted" && catchUp.forget(id));
  return catchUp;
}

async function noteStatus({ sprites, events, now }: SpriteContext, id: string, status: "cold" | "warm" | "running"): Promise<void> {
  const at = now();
  const record = await sprites.findById(id);
  if (record?.state !== "ready") return;
  await sprites.noteStatus(id, status, at);
  events.emit({ type: "status", id, name: record.name, status, at });
}

interface Parts {
  context: SpriteContext;
  storage: SpriteStorage;
  store: WatchedStore;
  sleeper: Sleeper;
  catchUp: CatchUp;
  readers: HistoryReaders;
  server: HttpServer;
  registry: Registry;
  undo: AsyncDisposableStack;
  signIn: SignIn;
  upstreamTimes: Partial<UpstreamTimes> | undefined;
}

/** Order of the end: no new requests, sessions cut, creates settled, VMs saved, times of use written. */
async function startParts(parts: Parts): Promise<void> {
  const { context, storage, store, sleeper, catchUp, readers, server, registry, undo, signIn, upstreamTimes } = parts;
  const { runtime, catalogue, log, sprites } = context;
  const creator = new SpriteCreator(context);
  const destroyer = new SpriteDestroyer(context, creator);
  undo.defer(() => bounded(catalogue.settled(), DESCRIBE_STOP_MS, { what: "describe sprites in the object store", log }));
  undo.defer(() => bounded(runtime.stopAll(), RUNTIME_STOP_MS, { what: "stop the VMs", log }));
  const hasAdopted = await recoverSprites(context, destroyer);
  undo.defer(() => bounded(readers[Symbol.asyncDispose](), READERS_STOP_MS, { what: "end the readers", log }));
  undo.defer(() => bounded(creator.idle(), CREATES_STOP_MS, { what: "end creates", log }));
  undo.use(startHousekeeping(context, destroyer, { hasAdopted, storeIsFit: store.fit }));
  await undo.use(sleeper).start();
  undo.defer(() => bounded(catchUp[Symbol.asyncDispose](), CATCH_UP_STOP_MS, { what: "end an upload", log }));
  await catchUp.start();
  const authenticator = undo.use(new Authenticator(registry.tokens, context.now));
  const locate = createPilotLocator(context);
  const upstream = undo.use(new Upstream(locate, context.uses, upstreamTimes));
  const rests = new RestAnswers(context, storage);
  const frontDoor = new FrontDoor({ sprites, authenticator, upstream, readers, rests, log });
  const exchange = undo.use(new ApplicationExchange(locate, context.uses));
  const access = new UrlAccess({ sprites, authenticator, signIn });
  const ingress = new Ingress({ access, exchange, ownRoutes: new OwnRoutes(sprites, signIn), log });
  const stopping = new AbortController();
  const pilot = createPilotRequester(locate, context.uses);
  const api = createApi({
    ...{ context, storage, creator, destroyer, sleeper, authenticator, pilot, signIn },
    storeHealth: () => store.health,
    tokens: registry.tokens,
    stopping: stopping.signal,
  });
  server.serve({ api: api.fetch as Parameters<HttpServer["serve"]>[0]["api"], frontDoor, ingress });
  undo.defer(async () => {
    stopping.abort();
    await server.stop();
  });
}

async function stopDaemon(running: AsyncDisposableStack, log: Logger): Promise<void> {
  log.info("hobd is stopping");
  await running.disposeAsync();
}
