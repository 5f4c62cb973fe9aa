export { parseDurationMs } from "@hob/protocol";
export type { ExecContainer } from "./container.ts";
export { type ExecDependencies, ExecEndpoint, registerExec } from "./endpoint.ts";
export { JournalStore } from "./journal/index.ts";
export type { SessionClient } from "./output-reader.ts";
export { defaultEnvironment } from "./request.ts";
export { Session, type SessionOptions, type SessionView } from "./session.ts";
export { SessionRegistry } from "./sessions.ts";
export { signalNumber } from "./signals.ts";
