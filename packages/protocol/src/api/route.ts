import type { z } from "zod";

/** What a body is: JSON of a schema, one JSON object of a schema per line, or bytes. */
export type BodyDescription = { json: z.ZodType } | { ndjson: z.ZodType } | { bytes: string /** media type */ };

/**
 * One route of the public API as documents and tests need it. The schemas are the ones that the server validates with:
 * the OpenAPI document is made from these descriptions, and cannot say anything else than the code does.
 */
export interface RouteDescription {
  method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
  /** with `{parameters}`, such as `/v1/sprites/{name}/fs/read` */
  path: string;
  /** heading under which documents list it */
  family: string;
  /** one sentence */
  summary: string;
  /** a GET that is upgraded to a WebSocket; `docs` says where its frames are described */
  webSocket?: { docs: string };
  /** answered without a token */
  open?: true;
  /** Hob's own: not in the API that the official SDKs speak */
  extension?: true;
  query?: z.ZodObject;
  body?: BodyDescription;
  /** answers by status; 401 and 404 of the sprite itself are understood */
  answers: Readonly<Record<number, { summary: string; body?: BodyDescription }>>;
}
