import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import fc from "fast-check";
import { foreignCookies, ownCookies } from "../src/ingress/cookies.ts";
import { SignIn } from "../src/ingress/sign-in.ts";

const TOKEN = "0123456789abcdef";
const key = randomBytes(32);

describe("signing in", () => {
  test("a ticket is good for one minute, a cookie for a week", () => {
    let now = 1_000_000_000_000;
    const signIn = new SignIn(key, () => now);
    const { ticket, expiresAt } = signIn.issue("one", TOKEN);
    assert.equal(expiresAt, now + 60_000);
    now = expiresAt + 1;
    assert.throws(() => signIn.redeem(ticket, "one"), { code: "unauthorized" });
    const { value, maxAgeSeconds } = signIn.redeem(signIn.issue("one", TOKEN).ticket, "one");
    assert.deepEqual(signIn.verify(value, "one"), { tokenId: TOKEN });
    now += maxAgeSeconds * 1_000 + 1_000;
    assert.equal(signIn.verify(value, "one"), undefined);
  });

  test("a ticket shown at another sprite is gone too", () => {
    const signIn = new SignIn(key);
    const { ticket } = signIn.issue("one", TOKEN);
    assert.throws(() => signIn.redeem(ticket, "two"), { code: "unauthorized" });
    assert.throws(() => signIn.redeem(ticket, "one"), { code: "unauthorized" });
  });

  test("tickets that nobody takes do not pile up; the newest works", () => {
    const signIn = new SignIn(key);
    const tickets = Array.from({ length: 1_500 }, () => signIn.issue("one", TOKEN).ticket);
    assert.throws(() => signIn.redeem(tickets[0] ?? "", "one"), { code: "unauthorized" });
    signIn.redeem(tickets.at(-1) ?? "", "one");
  });

  test("no other text is a cookie, nor the same with one character changed, nor by another key", () => {
    const signIn = new SignIn(key);
    const { value } = signIn.redeem(signIn.issue("one", TOKEN).ticket, "one");
    assert.equal(new SignIn(randomBytes(32)).verify(value, "one"), undefined);
    assert.equal(signIn.verify(value, "two"), undefined);
    fc.assert(fc.property(fc.string(), (text) => signIn.verify(text, "one") === undefined));
    // The last of 43 base64url characters holds 4 bits only: two of them mean the same.
    fc.assert(
      fc.property(fc.nat(value.length - 2), fc.constantFrom(..."0123456789abcdefghijXYZ-_."), (index, character) => {
        if (value[index] === character) return true;
        return signIn.verify(value.slice(0, index) + character + value.slice(index + 1), "one") === undefined;
      }),
    );
  });
});

describe("cookies", () => {
  const pair = fc.stringMatching(/^[a-z_]{1,12}=[!-+\--:<-~]{0,20}$/);

  test("ours are found wherever they stand, and taken out; all others stay as they were", () => {
    fc.assert(
      fc.property(fc.array(pair, { maxLength: 5 }), fc.nat(5), (pairs, position) => {
        const foreign = pairs.filter((text) => !text.startsWith("hob_url="));
        const all = foreign.toSpliced(position, 0, "hob_url=mine");
        assert.deepEqual(ownCookies(all.join("; ")), ["mine"]);
        assert.equal(foreignCookies(all.join("; ")), foreign.length === 0 ? undefined : foreign.join("; "));
      }),
    );
  });

  test("spellings", () => {
    assert.deepEqual(ownCookies("a=1;hob_url = x ;__Host-hob_url=y; xhob_url=z; hob_url2=w"), ["x", "y"]);
    assert.equal(foreignCookies("hob_url=a; ; __Host-hob_url=b"), undefined);
    assert.deepEqual(ownCookies(undefined), []);
  });
});
