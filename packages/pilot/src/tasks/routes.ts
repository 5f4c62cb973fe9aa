import { createTaskRequest, HobError, putTaskRequest } from "@hob/protocol";
import { Hono } from "hono";
import { readJson } from "../api/json-body.ts";
import { parseDurationMs } from "../exec/index.ts";
import type { Tasks } from "./tasks.ts";

/** Routes below `/tasks`; docs/api/inside.md describes them. */
export function taskRoutes(tasks: Tasks): Hono {
  const app = new Hono();
  app.get("/tasks", (c) => c.json({ tasks: tasks.list() }));
  app.get("/tasks/:task", (c) => c.json(tasks.get(c.req.param("task"))));
  app.post("/tasks", async (c) => {
    const { name, expire } = await readJson(c, createTaskRequest, "create task");
    return c.json(await tasks.create(name, milliseconds(expire)), 201);
  });
  app.put("/tasks/:task?", async (c) => {
    const { name, expire } = await readJson(c, putTaskRequest, "put task");
    const named = c.req.param("task");
    if (named !== undefined && name !== undefined && named !== name) {
      throw new HobError("invalid_request", "put task: name: the path names another task");
    }
    const target = named ?? name;
    if (target === undefined) throw new HobError("invalid_request", "put task: name: it is missing");
    return c.json(await tasks.put(target, milliseconds(expire)));
  });
  app.delete("/tasks/:task", async (c) => {
    await tasks.remove(c.req.param("task"));
    return c.body(null, 204);
  });
  return app;
}

/** A number counts seconds. */
function milliseconds(expire: string | number): number {
  const ms = parseDurationMs(String(expire));
  if (ms === undefined) throw new HobError("invalid_request", "task: expire: a duration such as 30m, or a number of seconds, expected");
  return ms;
}
