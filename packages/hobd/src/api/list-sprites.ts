import { HobError, type SpriteList } from "@hob/protocol";
import { z } from "zod";
import { ORGANIZATION } from "../tokens/token-format.ts";
import { decodeContinuation, encodeContinuation } from "./continuation.ts";
import { checkShape } from "./json-body.ts";
import { countStatuses, presentSprite, type StatusCounts } from "./present.ts";
import type { SpriteContext } from "./sprite-context.ts";

/** A sleeping sprite takes disk only, so there is no limit; the number is the largest that every client can hold. */
export const WARM_LIMIT = 2_147_483_647;

const listQuery = z.object({
  prefix: z.string().max(63).default(""),
  max_results: z
    .string()
    .regex(/^\d{1,4}$/, "a number from 1 to 500")
    .transform(Number)
    .pipe(z.number().min(1).max(500))
    .default(50),
  continuation_token: z.string().max(128).optional(),
});

export interface ListQuery {
  prefix: string;
  limit: number;
  after: string;
}

/** Reads the query of a list. Unknown parameters are ignored: clients send some. @throws HobError `invalid_request` */
export function parseListQuery(query: Record<string, string>): ListQuery {
  const { prefix, max_results, continuation_token } = checkShape(query, listQuery as z.ZodType<z.output<typeof listQuery>>, "list sprites");
  // Clients that always send the parameter send it empty for the first page.
  const after = continuation_token === undefined || continuation_token === "" ? "" : decodeContinuation(continuation_token);
  return { prefix, limit: max_results, after };
}

/** One page of sprites, sorted by name. The counters beside it count this page, those in `org` everything. */
export async function listSprites(context: SpriteContext, { prefix, limit, after }: ListQuery): Promise<SpriteList> {
  const { sprites, runtime, urlOf, gate } = context;
  const records = await sprites.list({ prefix, after, limit: limit + 1 });
  const page = records.slice(0, limit).map((record) => presentSprite(record, runtime.status(record.id), urlOf));
  const hasMore = records.length > limit;
  const last = page.at(-1);
  return {
    sprites: page,
    has_more: hasMore,
    ...(hasMore && last !== undefined ? { next_continuation_token: encodeContinuation(last.name) } : {}),
    ...countStatuses(page.map(({ status }) => status)),
    running_limit: gate.limit,
    warm_limit: WARM_LIMIT,
    name: ORGANIZATION,
    org: await organizationCounters(context),
  };
}

export interface OrganizationCounters extends StatusCounts {
  name: string;
  running_limit: number;
  warm_limit: number;
}

export async function organizationCounters({ sprites, runtime, gate }: SpriteContext): Promise<OrganizationCounters> {
  const ids = await sprites.listReadyIds();
  return { name: ORGANIZATION, ...countStatuses(ids.map((id) => runtime.status(id))), running_limit: gate.limit, warm_limit: WARM_LIMIT };
}

/** @throws HobError `invalid_request` when a header value is no usable Idempotency-Key */
export function checkIdempotencyKey(key: string | undefined, bytesMax: number): string | undefined {
  if (key === undefined) return undefined;
  if (key.length >= 1 && Buffer.byteLength(key) <= bytesMax) return key;
  throw new HobError("invalid_request", `create sprite: the Idempotency-Key must have 1 to ${bytesMax} bytes`);
}
