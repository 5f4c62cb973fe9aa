export type { ExecContainer } from "./container.ts";
export { parseDurationMs } from "./duration.ts";
export { type ExecDependencies, ExecEndpoint, registerExec } from "./endpoint.ts";
export { defaultEnvironment } from "./request.ts";
export { Session, type SessionClient, type SessionOptions, SessionRegistry } from "./sessions.ts";
export { signalNumber } from "./signals.ts";
