export * from "./client.ts";
export type { ExecResult } from "./collect.ts";
export { connectionError, errorFromAnswer } from "./errors.ts";
export { type AttachOptions, type ExecOptions, ExecSession, type ResumeOptions, type TtySize } from "./exec.ts";
export { type ReadOptions, SpriteFiles, type WriteOptions } from "./files.ts";
export type { Answer, Endpoint, Method } from "./http.ts";
export type { KillOptions } from "./sessions.ts";
export { openStream, type StreamOptions, streamJson } from "./stream.ts";
