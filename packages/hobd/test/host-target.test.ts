import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { describe, test } from "node:test";
import { HobError } from "@hob/protocol";
import fc from "fast-check";
import { applicationTarget, type HostTarget, hostTarget } from "../src/ingress/host.ts";

const DOMAIN = "sprites.localhost";

function targetOf(hosts: readonly string[], url = "/"): HostTarget | "refused" {
  try {
    return hostTarget({ url, rawHeaders: hosts.flatMap((host) => ["Host", host]) } as IncomingMessage, DOMAIN);
  } catch (error) {
    assert.ok(error instanceof HobError && error.status === 400, String(error));
    return "refused";
  }
}

/** Texts that are nearly hosts. */
const nearlyHost = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        "web",
        ".sprites.localhost",
        "sprites",
        "localhost",
        ".",
        ":80",
        "@",
        "/",
        "%2e",
        "[::1]",
        " ",
        ",",
        "\\",
        "#",
        "?",
        "x.",
        "-",
      ),
      fc.string({ maxLength: 3 }),
      fc.string({ unit: "binary", maxLength: 2 }),
    ),
    { maxLength: 5 },
  )
  .map((parts) => parts.join(""));

describe("any host", () => {
  test("is the API, one sprite, nowhere or refused; never the API where a URL parser reads a name below the domain", () => {
    fc.assert(
      fc.property(nearlyHost, (host) => {
        const target = targetOf([host]);
        const parsed = URL.canParse(`http://${host}/`) ? new URL(`http://${host}/`).hostname.replace(/\.$/, "") : undefined;
        if (target === "refused" || parsed === undefined) return;
        if (parsed.endsWith(`.${DOMAIN}`)) assert.notEqual(target.kind, "api", host);
        if (target.kind === "url") assert.equal(parsed, `${target.name}.${DOMAIN}`);
      }),
      { numRuns: 3_000 },
    );
  });

  test("given twice is refused, whatever it is", () => {
    fc.assert(fc.property(nearlyHost, nearlyHost, (a, b) => targetOf([a, b]) === "refused"));
  });

  test("of a target in absolute form counts alone, and is refused like a header", () => {
    fc.assert(
      fc.property(nearlyHost, (host) => {
        const header = targetOf([host]);
        const target = targetOf(["127.0.0.1"], `http://${host}/`);
        const authority = host.split(/[/?#]/)[0] ?? "";
        if (authority === host) assert.deepEqual(target, header);
      }),
    );
  });
});

describe("any target", () => {
  test("is passed on as it is, or refused", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 40 }), (text) => {
        try {
          const target = applicationTarget(`/${text}`);
          assert.equal(target, `/${text}`);
          // node:http refuses these bytes in a target; a reader of lines would take them for the end of it.
          assert.doesNotMatch(target, /[\0-\x20\x7f#]/);
        } catch (error) {
          assert.ok(error instanceof HobError && error.status === 400, String(error));
        }
      }),
      { numRuns: 2_000 },
    );
    assert.equal(applicationTarget("http://web.sprites.localhost?x"), "/?x");
    assert.equal(applicationTarget("https://web.sprites.localhost/a/../b"), "/a/../b");
    assert.throws(() => applicationTarget(`/${"a".repeat(300_000)}`), { code: "payload_too_large" });
    assert.throws(() => applicationTarget("ftp://x/"), { code: "invalid_request" });
  });
});
