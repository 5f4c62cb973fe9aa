export * from "./client.ts";
export { connectionError, errorFromAnswer } from "./errors.ts";
export { type ExecOptions, type ExecResult, ExecSession, type TtySize } from "./exec.ts";
export { type ReadOptions, SpriteFiles, type WriteOptions } from "./files.ts";
export type { Answer, Endpoint, Method } from "./http.ts";
export { openStream, type StreamOptions, streamJson } from "./stream.ts";
