export { FrozenFilesystem, HelperClient } from "./client.ts";
export type { DmStatus, DmTarget } from "./device-mapper.ts";
export type { ExecSpec, ExecTarget, WindowSize } from "./exec-request.ts";
export { HelperProcess, type OutputSink, type ProcessExit } from "./process.ts";
export type { InsideConnection, Listener, ListenerWatch, SocketAddress } from "./sockets.ts";
export type { MountSpec, NetworkSpec } from "./system.ts";
