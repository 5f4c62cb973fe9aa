import { z } from "zod";
import type { RouteDescription } from "./route.ts";

const family = "Daemon";

const healthAnswer = z.object({
  ok: z.literal(true),
  version: z.string(),
  store: z.enum(["ok", "unavailable", "refused"]).describe("the object store: it answers, it does not, or it refuses what Hob needs"),
});
const step = z.object({ name: z.string(), ms: z.number() });
const bounceAnswer = z.object({ totalMs: z.number(), steps: z.array(step), uptimeMs: z.number(), pilotPid: z.number() });

/** One run of `native/hob-disk-meter.c`, which explains the patterns. `remove` removes the file. */
export const diskMeterRequest = z.strictObject({
  pattern: z.enum([
    "reserve",
    "fill",
    "sequential-write",
    "sequential-read",
    "random-read",
    "random-write",
    "random-fsync",
    "random-fdatasync",
    "remove",
  ]),
  size_mb: z.number().int().min(1).max(1024).default(1),
  operations: z.number().int().min(1).max(100_000).default(1),
});
export type DiskMeterRequest = z.input<typeof diskMeterRequest>;
export const diskMeterAnswer = z.object({ bytes: z.number(), operations: z.number(), ms: z.number() });
export type DiskMeterAnswer = z.infer<typeof diskMeterAnswer>;

/** What is about the daemon and the platform itself, and in no SDK. */
export const daemonRoutes: readonly RouteDescription[] = [
  {
    method: "GET",
    path: "/healthz",
    family,
    open: true,
    extension: true,
    summary: "Says that the daemon answers, its version, and whether the object store can be used.",
    answers: { 200: { summary: "it is up", body: { json: healthAnswer } } },
  },
  {
    method: "GET",
    path: "/openapi.json",
    family,
    open: true,
    extension: true,
    summary: "This document.",
    answers: { 200: { summary: "OpenAPI 3.1", body: { json: z.object({ openapi: z.string() }) } } },
  },
  {
    method: "GET",
    path: "/docs",
    family,
    open: true,
    extension: true,
    summary: "A page for people that shows this document.",
    answers: { 200: { summary: "HTML", body: { bytes: "text/html" } } },
  },
  {
    method: "POST",
    path: "/v1/sprites/{name}/bounce",
    family,
    extension: true,
    summary: "Stops the sprite's inner container and starts it anew; its microVM runs on.",
    answers: { 200: { summary: "how long each step took, milliseconds", body: { json: bounceAnswer } } },
  },
  {
    method: "POST",
    path: "/v1/sprites/{name}/diagnostics/crun-exec",
    family,
    extension: true,
    summary: "Runs `crun exec … true` once inside the VM: what `npm run bench` holds an exec against.",
    answers: { 200: { summary: "milliseconds by the guest's clock", body: { json: z.object({ ms: z.number() }) } } },
  },
  {
    method: "GET",
    path: "/v1/sprites/{name}/diagnostics/stream",
    family,
    extension: true,
    summary: "Sends zero bytes out of the VM: what `npm run bench` holds output of an exec against.",
    query: z.object({ bytes: z.number().int().min(0).describe("how many; at most 1 GiB") }),
    answers: { 200: { summary: "zeros", body: { bytes: "application/octet-stream" } }, 400: { summary: "bytes is out of range" } },
  },
  {
    method: "POST",
    path: "/v1/sprites/{name}/diagnostics/disk",
    family,
    extension: true,
    summary: "Reads or writes a file on the sprite's disk below its volume: what `npm run bench` holds file access in the sprite against.",
    body: { json: diskMeterRequest },
    answers: {
      200: { summary: "by the guest's clock", body: { json: diskMeterAnswer } },
      400: { summary: "a pattern or size that is none" },
    },
  },
];
