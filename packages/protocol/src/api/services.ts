import { z } from "zod";
import type { RouteDescription } from "./route.ts";

/** Bounds on what one sprite may define. Bytes unless the name says otherwise. */
export const SERVICE_LIMITS = {
  services: 64,
  args: 256,
  argBytes: 8 * 1024,
  variables: 256,
  needs: 32,
  pathBytes: 4096,
} as const;

/** Becomes a file name, a cgroup and a part of paths. */
export const SERVICE_NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

export const serviceName = z
  .string()
  .regex(SERVICE_NAME_PATTERN, "1 to 63 characters a-z, A-Z, 0-9, '.', '_' and '-', beginning with a letter or digit");

const word = z
  .string()
  .max(SERVICE_LIMITS.argBytes)
  .refine((text) => !text.includes("\0"), "a NUL character is not possible");
const path = word.max(SERVICE_LIMITS.pathBytes);

/** A Go duration (`1.5s`, `1m30s`) or a plain number of seconds. */
export const durationText = z
  .string()
  .max(64)
  .regex(/^(\d+(\.\d+)?|(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+)$/, "a duration such as 10s or 1m30s expected");

/** Body of `PUT …/services/SERVICE`. What may be left out may also be null. */
export const serviceRequest = z.object({
  cmd: path.min(1, "a program expected"),
  args: z.array(word).max(SERVICE_LIMITS.args).nullish(),
  env: z
    .record(z.string().regex(/^[^=\0]+$/, "a variable's name expected"), word)
    .refine((env) => Object.keys(env).length <= SERVICE_LIMITS.variables, `at most ${SERVICE_LIMITS.variables} variables`)
    .nullish(),
  dir: path.startsWith("/", "an absolute path expected").nullish(),
  needs: z.array(serviceName).max(SERVICE_LIMITS.needs).nullish(),
  http_port: z.number().int().min(1).max(65_535).nullish(),
});

export const SERVICE_STATUSES = ["stopped", "starting", "running", "stopping", "failed"] as const;
export type ServiceStatus = (typeof SERVICE_STATUSES)[number];

/** Times are RFC 3339. What does not apply at the moment is left out. */
export const serviceState = z.object({
  name: z.string(),
  status: z.enum(SERVICE_STATUSES),
  /** inside the sprite */
  pid: z.number().int().optional(),
  started_at: z.iso.datetime().optional(),
  error: z.string().optional(),
  /** restarts after an end of its own since it was last started */
  restart_count: z.number().int(),
  next_restart_at: z.iso.datetime().optional(),
});
export type ServiceState = z.infer<typeof serviceState>;

export const service = z.object({
  name: z.string(),
  cmd: z.string(),
  args: z.array(z.string()),
  env: z.record(z.string(), z.string()).optional(),
  dir: z.string().optional(),
  needs: z.array(z.string()),
  http_port: z.number().int().nullable(),
  state: serviceState,
});
export type Service = z.infer<typeof service>;

/** One line of a stream. Timestamps are Unix time in milliseconds. */
export const serviceEvent = z.discriminatedUnion("type", [
  z.object({ type: z.literal("started"), timestamp: z.number().int() }),
  z.object({ type: z.literal("stdout"), data: z.string(), timestamp: z.number().int() }),
  z.object({ type: z.literal("stderr"), data: z.string(), timestamp: z.number().int() }),
  z.object({ type: z.literal("exit"), exit_code: z.number().int(), timestamp: z.number().int() }),
  z.object({ type: z.literal("error"), data: z.string(), timestamp: z.number().int() }),
  z.object({ type: z.literal("stopping"), timestamp: z.number().int() }),
  z.object({ type: z.literal("stopped"), exit_code: z.number().int(), timestamp: z.number().int() }),
  z.object({
    type: z.literal("complete"),
    log_files: z.object({ combined: z.string(), stdout: z.string(), stderr: z.string() }),
    timestamp: z.number().int(),
  }),
]);
export type ServiceEvent = z.infer<typeof serviceEvent>;

export const signalServiceRequest = z.object({ name: serviceName, signal: z.string().min(1).max(32) });

export const durationQuery = z.object({ duration: durationText.optional() });
export const stopQuery = z.object({ timeout: durationText.optional() });
export const logsQuery = z.object({
  lines: z
    .string()
    .regex(/^\d{1,9}$/, "a number of lines expected")
    .optional(),
  duration: durationText.optional(),
});

const base = "/v1/sprites/{name}/services";
const family = "Services";
const stream = { ndjson: serviceEvent };

export const servicesRoutes: readonly RouteDescription[] = [
  {
    method: "GET",
    path: base,
    family,
    summary: "Lists the services and their states, in the order in which they start.",
    answers: { 200: { summary: "the services", body: { json: z.array(service) } } },
  },
  {
    method: "GET",
    path: `${base}/{service}`,
    family,
    summary: "Shows one service and its state.",
    answers: { 200: { summary: "the service", body: { json: service } }, 404: { summary: "no such service" } },
  },
  {
    method: "PUT",
    path: `${base}/{service}`,
    family,
    summary: "Defines a service or replaces its definition, starts it and shows its output for a while.",
    query: durationQuery,
    body: { json: serviceRequest },
    answers: {
      200: { summary: "what happens, as it happens", body: stream },
      400: { summary: "the definition is malformed, needs an unknown service, or closes a circle of needs" },
      409: { summary: "another service has an HTTP port, or there are too many services" },
      413: { summary: "the body is too large" },
      503: { summary: "the container does not run at the moment" },
    },
  },
  {
    method: "DELETE",
    path: `${base}/{service}`,
    family,
    summary: "Stops a service and removes its definition; its log stays.",
    answers: { 204: { summary: "removed" }, 404: { summary: "no such service" }, 409: { summary: "another service needs it" } },
  },
  {
    method: "POST",
    path: `${base}/{service}/start`,
    family,
    summary: "Starts a service, those that it needs first, and shows its output for a while.",
    query: durationQuery,
    answers: {
      200: { summary: "what happens, as it happens", body: stream },
      404: { summary: "no such service" },
      409: { summary: "it runs already" },
      503: { summary: "the container does not run at the moment" },
    },
  },
  {
    method: "POST",
    path: `${base}/{service}/stop`,
    family,
    summary: "Stops a service for good: it stays stopped until it is started.",
    query: stopQuery,
    answers: {
      200: { summary: "what happens, as it happens", body: stream },
      404: { summary: "no such service" },
      409: { summary: "it does not run" },
    },
  },
  {
    method: "POST",
    path: `${base}/{service}/restart`,
    family,
    summary: "Stops a service if it runs, starts it, and shows its output for a while.",
    query: durationQuery,
    answers: {
      200: { summary: "what happens, as it happens", body: stream },
      404: { summary: "no such service" },
      503: { summary: "the container does not run at the moment" },
    },
  },
  {
    method: "GET",
    path: `${base}/{service}/logs`,
    family,
    summary: "Shows what a service wrote, and goes on doing so if asked.",
    query: logsQuery,
    answers: { 200: { summary: "the lines", body: stream }, 404: { summary: "no such service" } },
  },
  {
    method: "POST",
    path: `${base}/signal`,
    family,
    summary: "Sends a signal to the processes of a service.",
    body: { json: signalServiceRequest },
    answers: {
      204: { summary: "sent" },
      400: { summary: "no such signal" },
      404: { summary: "no such service" },
      409: { summary: "it does not run" },
    },
  },
];
