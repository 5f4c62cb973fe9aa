import { z } from "zod";
import { ERROR_CATALOGUE } from "../errors.ts";
import type { BodyDescription, RouteDescription } from "./route.ts";

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
type JsonObject = { [key: string]: Json };

/** An OpenAPI 3.1 document, https://spec.openapis.org/oas/v3.1.0 */
export type OpenApiDocument = { openapi: string; paths: { [path: string]: JsonObject } } & JsonObject;

/** What every route may answer besides what its description says. */
const COMMON_ANSWERS = {
  401: "the token is missing, unknown or revoked",
  404: "no such sprite",
} as const;

/** Writes the document of these routes. Schemas are JSON Schema 2020-12, which OpenAPI 3.1 takes as it is. */
export function openApiDocument(routes: readonly RouteDescription[], version: string): OpenApiDocument {
  const paths: { [path: string]: JsonObject } = {};
  for (const route of routes) {
    const item = paths[route.path] ?? {};
    item[route.method.toLowerCase()] = mergeOperations(item[route.method.toLowerCase()] as JsonObject | undefined, operationOf(route));
    paths[route.path] = item;
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Hob",
      version,
      description:
        "The public Sprites API as Hob serves it. Routes and fields marked `x-hob-extension` are Hob's own. Errors are JSON with `error` (a code), `message` and often `hint`.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    tags: [...new Set(routes.map(({ family }) => family))].map((name) => ({ name })),
    security: [{ bearer: [] }],
    paths,
    components: {
      securitySchemes: { bearer: { type: "http", scheme: "bearer" } },
      schemas: { Error: ERROR_SCHEMA },
    },
  };
}

const ERROR_SCHEMA: JsonObject = {
  type: "object",
  required: ["error", "message"],
  properties: {
    error: { type: "string", enum: Object.keys(ERROR_CATALOGUE), description: "see docs/errors.md" },
    message: { type: "string" },
    hint: { type: "string", description: "what to do" },
    limit: { type: "number" },
    current_count: { type: "number" },
    window_seconds: { type: "number" },
    retry_after_seconds: { type: "number" },
  },
  additionalProperties: true,
};

/** One path may be a plain GET and an upgrade to a WebSocket: OpenAPI has one operation for both. */
function mergeOperations(first: JsonObject | undefined, second: JsonObject): JsonObject {
  if (first === undefined) return second;
  return {
    ...first,
    ...second,
    summary: `${first.summary} ${second.summary}`,
    parameters: uniqueParameters([...((first.parameters as JsonObject[]) ?? []), ...((second.parameters as JsonObject[]) ?? [])]),
    responses: mergeResponses(first.responses as JsonObject, second.responses as JsonObject),
  };
}

/** Answers of one status that differ by media type stand side by side. */
function mergeResponses(first: JsonObject, second: JsonObject): JsonObject {
  const merged = { ...first };
  for (const [status, answer] of Object.entries(second) as [string, JsonObject][]) {
    const other = merged[status] as JsonObject | undefined;
    if (other === undefined) merged[status] = answer;
    else if (other.description !== answer.description || JSON.stringify(other.content) !== JSON.stringify(answer.content)) {
      const content = { ...(other.content as JsonObject), ...(answer.content as JsonObject) };
      merged[status] = {
        description: `${other.description}; or ${answer.description}`,
        ...(Object.keys(content).length === 0 ? {} : { content }),
      };
    }
  }
  return merged;
}

const uniqueParameters = (parameters: readonly JsonObject[]): JsonObject[] => [
  ...new Map(parameters.map((parameter) => [`${parameter.in} ${parameter.name}`, parameter])).values(),
];

function operationOf(route: RouteDescription): JsonObject {
  const parameters = [...pathParameters(route.path), ...queryParameters(route)];
  return {
    operationId: operationId(route),
    tags: [route.family],
    summary: route.summary,
    ...(route.open ? { security: [] } : {}),
    ...(route.extension ? { "x-hob-extension": true } : {}),
    ...(route.webSocket === undefined ? {} : { "x-websocket": { docs: route.webSocket.docs } }),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(route.body === undefined ? {} : { requestBody: { content: contentOf(route.body, "input") } }),
    responses: responsesOf(route),
  };
}

const operationId = ({ method, path, webSocket }: RouteDescription): string =>
  `${method.toLowerCase()}${webSocket === undefined ? "" : "_socket"}${path.replace(/^\/v1/, "").replace(/[^A-Za-z0-9]+/g, "_")}`.replace(
    /_$/,
    "",
  );

const pathParameters = (path: string): JsonObject[] =>
  [...path.matchAll(/\{([^}]+)\}/g)].map(([, name = ""]) => ({ name, in: "path", required: true, schema: { type: "string" } }));

function queryParameters({ query }: RouteDescription): JsonObject[] {
  if (query === undefined) return [];
  const { properties = {}, required = [] } = jsonSchema(query, "input") as { properties?: JsonObject; required?: string[] };
  return Object.entries(properties).map(([name, value]) => {
    const { description, ...schema } = value as JsonObject;
    return { name, in: "query", required: required.includes(name), ...(description === undefined ? {} : { description }), schema };
  });
}

function responsesOf(route: RouteDescription): JsonObject {
  const responses: JsonObject = {};
  for (const [status, { summary, body }] of Object.entries(route.answers)) {
    const content = body === undefined ? (Number(status) >= 400 ? ERROR_CONTENT : undefined) : contentOf(body, "output");
    responses[status] = { description: summary, ...(content === undefined ? {} : { content }) };
  }
  if (route.open) return responses;
  responses["401"] ??= { description: COMMON_ANSWERS[401], content: ERROR_CONTENT };
  if (route.path.includes("{name}")) responses["404"] ??= { description: COMMON_ANSWERS[404], content: ERROR_CONTENT };
  return responses;
}

const ERROR_CONTENT: JsonObject = { "application/json": { schema: { $ref: "#/components/schemas/Error" } } };

function contentOf(body: BodyDescription, io: "input" | "output"): JsonObject {
  if ("bytes" in body) return { [body.bytes]: {} };
  if ("json" in body) return { "application/json": { schema: jsonSchema(body.json, io) } };
  return { "application/x-ndjson": { schema: jsonSchema(body.ndjson, io), "x-each-line": true } };
}

/** What JSON Schema has no word for, such as a transformation of text, is left open. */
function jsonSchema(schema: z.ZodType, io: "input" | "output"): JsonObject {
  const {
    $schema: _,
    "~standard": __,
    ...rest
  } = z.toJSONSchema(schema, { io, unrepresentable: "any", target: "draft-2020-12" }) as JsonObject;
  return rest;
}
