export * from "./client.ts";
export { connectionError, errorFromAnswer } from "./errors.ts";
export { type ExecOptions, type ExecResult, ExecSession, type TtySize } from "./exec.ts";
export type { Forward, ForwardOptions } from "./forward.ts";
export type { Answer, Endpoint, Method } from "./http.ts";
export type { PortListener, PortWatch } from "./ports.ts";
export type { ProxyTarget } from "./proxy.ts";
