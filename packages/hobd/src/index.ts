export { defaultMaxRunning } from "./api/capacity.ts";
export { CACHE_KEEP_MS_MIN, type PruneReport, pruneCache } from "./cache/prune.ts";
export { type CacheEntry, surveyCache } from "./cache/survey.ts";
export {
  CONFIG_DEFAULTS,
  CONFIG_VARIABLES,
  cacheKeepMs,
  type DaemonConfig,
  daemonConfig,
  defaultHome,
  LOG_LEVELS,
  loadConfig,
  localUrl,
  type RawConfig,
} from "./daemon/config.ts";
export { type Daemon, type DaemonOverrides, type RuntimeContext, startDaemon } from "./daemon/context.ts";
export { type DaemonInfo, type HomeLayout, homeLayout, readDaemonInfo, readTokenFile } from "./daemon/home.ts";
export { createHomeToken, listHomeTokens, revokeHomeToken } from "./daemon/home-tokens.ts";
export { reloadOnSignal, type SignalSource, stopOnSignal } from "./daemon/signals.ts";
export { createRuntime, type RuntimeOptions } from "./runtime/context.ts";
export type { MachineSpec, PilotEndpoint, SpriteEndpoint, SpriteRuntime } from "./runtime/sprite-runtime.ts";
export { ORGANIZATION } from "./tokens/token-format.ts";
export { type CreatedToken, createToken, listTokens, revokeToken, type TokenInfo } from "./tokens/tokens.ts";
