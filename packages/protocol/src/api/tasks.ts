import { z } from "zod";
import type { RouteDescription } from "./route.ts";
import { durationText } from "./services.ts";

export const TASK_LIMITS = {
  tasks: 64,
  /** how long one task may hold the sprite before it has to be renewed */
  expireMs: 60 * 60_000,
} as const;

export const taskName = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/,
    "1 to 128 characters a-z, A-Z, 0-9, '.', '_', ':' and '-', beginning with a letter or digit",
  );

/** A duration such as `1h`, or a number of seconds. */
const expire = z.union([durationText, z.number().positive()]);

export const createTaskRequest = z.object({ name: taskName, expire });
export const putTaskRequest = z.object({ name: taskName.optional(), expire });

/** Times are RFC 3339. */
export const task = z.object({ name: z.string(), started_at: z.iso.datetime(), expires_at: z.iso.datetime() });
export type Task = z.infer<typeof task>;

const family = "Tasks";
const base = "/v1/sprites/{name}/tasks";
const bad = { summary: "the name or the duration is malformed, or longer than an hour" };

export const tasksRoutes: readonly RouteDescription[] = [
  {
    method: "GET",
    path: base,
    family,
    summary: "Lists the tasks that hold the sprite awake.",
    extension: true,
    answers: { 200: { summary: "the tasks", body: { json: z.object({ tasks: z.array(task) }) } } },
  },
  {
    method: "GET",
    path: `${base}/{task}`,
    family,
    summary: "Shows one task.",
    extension: true,
    answers: { 200: { summary: "the task", body: { json: task } }, 404: { summary: "no such task, or it has expired" } },
  },
  {
    method: "POST",
    path: base,
    family,
    summary: "Makes a task: the sprite does not fall asleep before it expires or is deleted.",
    extension: true,
    body: { json: createTaskRequest },
    answers: {
      201: { summary: "made", body: { json: task } },
      400: bad,
      409: { summary: "a task of this name is there, or there are too many" },
    },
  },
  {
    method: "PUT",
    path: base,
    family,
    summary: "Makes or renews the task that the body names.",
    extension: true,
    body: { json: putTaskRequest },
    answers: { 200: { summary: "the task", body: { json: task } }, 400: bad, 409: { summary: "there are too many" } },
  },
  {
    method: "PUT",
    path: `${base}/{task}`,
    family,
    summary: "Makes or renews a task.",
    extension: true,
    body: { json: putTaskRequest },
    answers: { 200: { summary: "the task", body: { json: task } }, 400: bad, 409: { summary: "there are too many" } },
  },
  {
    method: "DELETE",
    path: `${base}/{task}`,
    family,
    summary: "Ends a task.",
    extension: true,
    answers: { 204: { summary: "ended" }, 404: { summary: "no such task, or it has expired" } },
  },
];
