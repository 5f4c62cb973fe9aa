import { type CheckpointEvent, checkpointRequest, HobError, LIMITS, parseCheckpointFilter, toHobError } from "@hob/protocol";
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { stream } from "hono/streaming";
import type { Checkpoints } from "./checkpoints.ts";

type Emit = (event: Omit<CheckpointEvent, "time">) => void;
type Fields = Partial<Omit<CheckpointEvent, "time" | "type" | "data">>;

/** `docs/api/checkpoints.md` */
export function checkpointRoutes(checkpoints: Checkpoints): Hono {
  const app = new Hono();
  app.post("/checkpoint", bodyLimit({ maxSize: LIMITS.jsonBodyBytes, onError: tooLarge }), async (c) => {
    const { comment = "" } = await readRequest(c);
    return progress(c, (emit) => create(checkpoints, comment, emit));
  });
  app.get("/checkpoints", (c) => c.json(checkpoints.list(parseCheckpointFilter(c.req.query()))));
  app.get("/checkpoints/:id", (c) => c.json(checkpoints.get(c.req.param("id"))));
  app.delete("/checkpoints/:id", async (c) => {
    await checkpoints.delete(c.req.param("id"));
    return c.body(null, 204);
  });
  app.post("/checkpoints/:id/restore", (c) => {
    const id = c.req.param("id");
    checkpoints.requireRestorable(id);
    return progress(c, (emit) => restore(checkpoints, id, emit));
  });
  app.post("/restore/undo", (c) => {
    const id = checkpoints.undoTarget();
    return progress(c, (emit) => restore(checkpoints, id, emit));
  });
  return app;
}

async function create(checkpoints: Checkpoints, comment: string, emit: Emit): Promise<void> {
  emit({ type: "info", data: "Creating checkpoint..." });
  emit({ type: "info", data: "Saving filesystem state..." });
  const { checkpoint, pauseMs } = await checkpoints.create(comment);
  const { id } = checkpoint;
  for (const data of ["Checkpoint created successfully", `  ID: ${id}`, `  Path: checkpoints/${id}`]) emit({ type: "info", data });
  emit({ type: "complete", data: `Checkpoint ${id} created successfully`, id, pauseMs });
}

async function restore(checkpoints: Checkpoints, id: string, emit: Emit): Promise<void> {
  emit({ type: "info", data: `Restoring to checkpoint ${id}...` });
  const { undoId, steps } = await checkpoints.restore(id, (data) => emit({ type: "info", data }));
  emit({ type: "info", data: "Container components started successfully" });
  emit({ type: "complete", data: `Restored to ${id}`, id, undoId, steps: [...steps] });
}

/** What was begun is brought to its end, whether or not somebody still reads about it. */
function progress(c: Context, work: (emit: Emit) => Promise<void>): Response {
  c.header("Content-Type", "application/x-ndjson");
  return stream(c, async (lines) => {
    let written = Promise.resolve();
    const emit: Emit = (event) => {
      const line = `${JSON.stringify({ ...event, time: new Date().toISOString() })}\n`;
      written = written
        .then(() => lines.write(line))
        .then(
          () => {},
          () => {},
        );
    };
    await work(emit).catch((thrown: unknown) => emit({ type: "error", ...failure(thrown) }));
    await written;
  });
}

function failure(thrown: unknown): Fields {
  const { message, code, hint } = toHobError(thrown);
  return { error: message, code, ...(hint === undefined ? {} : { hint }) };
}

/** Clients send no body, an empty one, or JSON. */
async function readRequest(c: Context): Promise<{ comment?: string | undefined }> {
  const text = await c.req.text();
  if (text.trim() === "") return {};
  const parsed = checkpointRequest.safeParse(parseJson(text));
  if (!parsed.success) {
    throw new HobError("invalid_request", `create checkpoint: ${parsed.error.issues[0]?.message ?? "the body is not valid"}`, {
      hint: 'send {"comment": "…"} or nothing',
    });
  }
  return parsed.data;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const tooLarge = (): never => {
  throw new HobError("payload_too_large", `create checkpoint: a body of at most ${LIMITS.jsonBodyBytes} bytes is possible`);
};
