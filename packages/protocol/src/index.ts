export * from "./errors.ts";
export * from "./exec.ts";
export * from "./http-exec.ts";
export * from "./limits.ts";
export * from "./pilot.ts";
export * from "./sprites.ts";
export * from "./version.ts";
