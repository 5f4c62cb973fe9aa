/** What an HTTP request says in text: its target, host, cookies, token, queries. Pure functions, so many inputs. */
import type { IncomingMessage } from "node:http";
import { isDeepStrictEqual } from "node:util";
import { parseDurationMs, SPRITE_NAME_PATTERN } from "@hob/protocol";
import type { z } from "zod";
import { decodeContinuation, encodeContinuation } from "../../../../packages/hobd/src/api/continuation.ts";
import { checkIdempotencyKey, parseListQuery } from "../../../../packages/hobd/src/api/list-sprites.ts";
import { parseTarget } from "../../../../packages/hobd/src/front-door/target.ts";
import { isOwnPage } from "../../../../packages/hobd/src/ingress/access.ts";
import { foreignCookies, ownCookies } from "../../../../packages/hobd/src/ingress/cookies.ts";
import { applicationTarget, hostTarget } from "../../../../packages/hobd/src/ingress/host.ts";
import { ownRoute } from "../../../../packages/hobd/src/ingress/own-routes.ts";
import { SignIn } from "../../../../packages/hobd/src/ingress/sign-in.ts";
import { formatToken, parseToken } from "../../../../packages/hobd/src/tokens/token-format.ts";
import { relativeTarget } from "../../../../packages/pilot/src/api/endpoint.ts";
import { matchExecRoute, parseAttachRequest, parseExecRequest, toExecSpec } from "../../../../packages/pilot/src/exec/request.ts";
import { parseRange } from "../../../../packages/pilot/src/files/read.ts";
import { encodeExec } from "../../../../packages/pilot/src/helper/exec-request.ts";
import { API_ROUTES } from "../../../../packages/protocol/src/api/index.ts";
import { mutatedText } from "../mutate.ts";
import { ensure, type Target, target, type Verdict } from "../target.ts";
import { parsed } from "../verdict.ts";

const TARGETS = [
  "/v1/sprites/box/exec?cmd=ls&cmd=-l&env=A=1&dir=/tmp",
  "/v1/sprites/box/fs/read?path=/etc/hosts&workingDir=/home",
  "http://127.0.0.1:7788/v1/sprites/box/services/web/logs?lines=10",
  "/v1/sprites/box%2e/..%2f../hob/ready",
  "/v1/sprites/box/check",
  "/v1/sprites?prefix=a&max_results=10",
  "//v1/sprites/box/exec",
  "*",
];

const frontDoorTarget = target<string>(
  { name: "front-door-target", summary: "the target of an HTTP request, by which the daemon decides who answers", weight: 3 },
  () => ({
    input: (random) => mutatedText(random, TARGETS),
    run: (raw) =>
      parsed(
        () => parseTarget(raw),
        (found) => {
          if (found.kind !== "sprite") return;
          // What the pilot's URL parser makes of it must be what was decided on here.
          const path = `/v1/sprites/box${found.rest}`;
          const url = new URL(`http://pilot${path}`);
          ensure(url.pathname.startsWith("/v1/sprites/box/"), () => `leads out of the sprite: ${url.pathname}`);
          ensure(!/[\0-\x20\x7f]/.test(found.rest), () => "holds a control character or a space");
          ensure(relativeTarget({ url: path } as IncomingMessage) !== undefined, () => "the pilot does not know it for a sprite's");
        },
      ),
  }),
);

const HOSTS = [
  "box.sprites.localhost",
  "box.sprites.localhost:7788",
  "127.0.0.1:7788",
  "[::1]:7788",
  "BOX.Sprites.Localhost.",
  "a@box.sprites.localhost",
];

const hostHeader = target<{ host: string; url: string; twice: boolean }>(
  { name: "host-header", summary: "the Host header and the absolute form of a target, for sprites' URLs", weight: 3 },
  () => ({
    input: (random) => ({
      host: mutatedText(random, HOSTS),
      url: random.chance(0.5) ? "/" : mutatedText(random, [...HOSTS.map((host) => `http://${host}/x?y`), ...TARGETS]),
      twice: random.chance(0.1),
    }),
    run: ({ host, url, twice }) => {
      const rawHeaders = ["Host", host, ...(twice ? ["host", "other"] : [])];
      return parsed(
        () => ({ found: hostTarget({ rawHeaders, url } as IncomingMessage, "sprites.localhost"), path: applicationTarget(url) }),
        ({ found, path }) => {
          ensure(!twice, () => "two Host headers were accepted");
          if (found.kind === "url") ensure(SPRITE_NAME_PATTERN.test(found.name), () => `a name that no sprite has: ${found.name}`);
          if (found.kind === "url") ensure(!/[\s\0/@]/.test(found.authority), () => `an authority with more in it: ${found.authority}`);
          ensure(path === "*" || (path.startsWith("/") && !/[\s\0]/.test(path)), () => `no target in origin form: ${path}`);
          ownRoute(path);
        },
      );
    },
  }),
);

interface Cookies {
  cookie: string;
  origin: string;
  host: string;
}

const cookies = target<Cookies>(
  { name: "cookies", summary: "cookies, tickets and Origin of a browser at a sprite's URL", weight: 3 },
  () => {
    const signIn = new SignIn(Buffer.alloc(32, 7), () => 1_000_000);
    const { value } = signIn.redeem(signIn.issue("sprite-1", "0123456789abcdef").ticket, "sprite-1");
    return {
      input: (random) => ({
        cookie: mutatedText(random, [`hob_url=${value}`, `a=b; __Host-hob_url=${value}; c="d;e"`, `hob_url=${value}; hob_url=x`]),
        origin: mutatedText(random, ["http://box.sprites.localhost:7788", "null", "https://evil.example"]),
        host: mutatedText(random, ["box.sprites.localhost:7788"]),
      }),
      run: ({ cookie, origin, host }) => {
        const values = ownCookies(cookie);
        const rest = foreignCookies(cookie);
        if (rest !== undefined) ensure(ownCookies(rest).length === 0, () => `our cookie would reach the application: ${rest}`);
        for (const each of values) {
          const known = signIn.verify(each, "sprite-1");
          ensure(known === undefined || each === value, () => `a forged cookie was taken: ${each}`);
          ensure(signIn.verify(each, "sprite-2") === undefined, () => "a cookie of another sprite was taken");
        }
        isOwnPage({ method: "POST", headers: { origin, host } } as IncomingMessage, false);
        return values.includes(value) ? "accepted" : "refused";
      },
    };
  },
);

const TOKEN = formatToken({ id: "0123456789abcdef", secret: "A".repeat(43) });

const tokens = target<string>(
  { name: "tokens", summary: "bearer tokens, continuation tokens, durations, Range, Idempotency-Key", weight: 2 },
  () => ({
    input: (random) =>
      mutatedText(random, [TOKEN, encodeContinuation("box"), "1m30s", "10s", "1.5h", "key-1", "bytes= 0 - 99 ", "bytes=-5"]),
    run: (text) => {
      const token = parseToken(text);
      if (token !== undefined) ensure(formatToken(token) === text, () => "a token that is written otherwise");
      const ms = parseDurationMs(text);
      if (ms !== undefined) ensure(ms >= 0 && ms < 2 ** 31, () => `a duration of ${ms} ms`);
      const range = parseRange(text);
      if (range !== undefined && "length" in range) ensure((range.length ?? 1) >= 1, () => "a range of nothing");
      parsed(() => checkIdempotencyKey(text, 255));
      const verdict = parsed(
        () => decodeContinuation(text),
        (name) => ensure(encodeContinuation(name) === text, () => "a continuation that is written otherwise"),
      );
      return token !== undefined || ms !== undefined || range !== undefined ? "accepted" : verdict;
    },
  }),
);

const QUERIES = [
  "cmd=bash&cmd=-c&cmd=echo%20%24A&env=A=1&env=B=%00&dir=/tmp&tty=true&cols=80&rows=24&stdin=1",
  "path=/usr/bin/env&detachable=true&max_run_after_disconnect=1m30s",
  "id=17&output_offset=1024&stdin=false&cols=10&rows=10",
  "prefix=a&max_results=500&continuation_token=MTpib3g&__proto__=1",
];

const queries = target<string>({ name: "query-strings", summary: "queries of exec, attach and lists", weight: 3 }, () => ({
  input: (random) => mutatedText(random, QUERIES),
  run: (query) => {
    const parameters = new URLSearchParams(query);
    const verdicts: Verdict[] = [
      parsed(
        () => toExecSpec(parseExecRequest(parameters), {}),
        (spec) => {
          ensure(
            [spec.cwd, ...spec.argv].every((word) => !word.includes("\0")),
            () => "a NUL reached the helper's request",
          );
          parsed(() => encodeExec(spec));
        },
      ),
      parsed(
        () => parseAttachRequest(parameters),
        ({ outputOffset = 0 }) => ensure(Number.isSafeInteger(outputOffset), () => `an offset of ${outputOffset}`),
      ),
      parsed(
        () => parseListQuery(Object.fromEntries(parameters)),
        ({ limit }) => ensure(Number.isInteger(limit) && limit >= 1 && limit <= 500, () => `a page of ${limit}`),
      ),
      parsed(() => matchExecRoute(`/v1/sprites/box/exec?${query}`)),
    ];
    return verdicts.includes("accepted") ? "accepted" : "refused";
  },
}));

/** A query that was read once says the same when it is read again: what was accepted is in its normal form, or refused in it. */
const routeQueries = target<{ index: number; query: string }>(
  { name: "route-queries", summary: "the query of every described route, by its schema", weight: 3 },
  () => {
    const schemas = API_ROUTES.flatMap(({ query }) => (query === undefined ? [] : [query]));
    return {
      input: (random) => {
        const index = random.below(schemas.length);
        const names = Object.keys((schemas[index] as z.ZodObject).shape);
        const pairs = names.map((name) => `${name}=${random.pick(["1", "true", "10s", "/tmp/a", "v1", "100", "a", "0755"])}`);
        return { index, query: mutatedText(random, [pairs.join("&")]) };
      },
      run: ({ index, query }) => {
        const given = Object.fromEntries(new URLSearchParams(query));
        const schema = schemas[index] as z.ZodObject;
        const result = schema.safeParse(given);
        if (result.success) ensure(isDeepStrictEqual(schema.parse(given), result.data), () => "read twice, it means two things");
        return result.success ? "accepted" : "refused";
      },
    };
  },
);

export const requestTargets: readonly Target[] = [frontDoorTarget, hostHeader, cookies, tokens, queries, routeQueries];
