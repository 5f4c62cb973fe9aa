export type { ByteRange } from "./byte-range.ts";
export { FrozenFilesystem, HelperClient } from "./client.ts";
export type { AttributeDifference, FileComparison } from "./compare.ts";
export type { DmStatus, DmTarget } from "./device-mapper.ts";
export type { ExecSpec, ExecTarget, WindowSize } from "./exec-request.ts";
export { type EntryRecord, type EventRecord, FileError, type FileRequest, FileStream, type FileUser } from "./files.ts";
export { HelperProcess, type OutputSink, type ProcessExit } from "./process.ts";
export type { InsideConnection, Listener, ListenerWatch, SocketAddress } from "./sockets.ts";
export type { MountSpec, NetworkSpec } from "./system.ts";
