import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { createHomeToken, listHomeTokens, revokeHomeToken } from "../src/index.ts";
import { openSqliteRegistry } from "../src/registry/sqlite-registry.ts";
import { Authenticator } from "../src/tokens/authenticator.ts";
import { formatToken, generateToken, parseToken } from "../src/tokens/token-format.ts";
import { createToken } from "../src/tokens/tokens.ts";
import { temporaryHome } from "./support/test-daemon.ts";

describe("tokens", () => {
  test("a generated token can be read back; nothing else can", () => {
    const parts = generateToken();
    assert.deepEqual(parseToken(formatToken(parts)), parts);
    assert.match(formatToken(parts), /^hob\/[0-9a-f]{16}\/[A-Za-z0-9_-]{43}$/);
    fc.assert(fc.property(fc.string(), (text) => parseToken(text) === undefined));
    assert.equal(parseToken(`${formatToken(parts)}\n`), undefined);
    assert.equal(parseToken(formatToken(parts).replace("hob/", "bob/")), undefined);
  });

  test("made, listed and revoked in a home directory; the secret is nowhere in it", async () => {
    await using home = await temporaryHome();
    const { token, id } = await createHomeToken(home.path, " laptop ");
    const [listed, ...more] = await listHomeTokens(home.path);
    assert.deepEqual(more, []);
    assert.equal(listed?.description, "laptop");
    assert.equal(Object.hasOwn(listed ?? {}, "secretHash"), false);
    const secret = parseToken(token)?.secret ?? "";
    for (const file of readdirSync(home.path, { withFileTypes: true })) {
      if (file.isFile()) assert.equal(readFileSync(join(home.path, file.name)).includes(secret), false, file.name);
    }
    await revokeHomeToken(home.path, id);
    assert.notEqual((await listHomeTokens(home.path))[0]?.revokedAt, null);
    await assert.rejects(revokeHomeToken(home.path, id), { code: "not_found" });
    await assert.rejects(createHomeToken(home.path, "  "), { code: "invalid_request" });
  });

  test("authentication: only a known, whole, unrevoked token passes", async () => {
    await using home = await temporaryHome();
    await using registry = openSqliteRegistry(join(home.path, "hob.db"));
    await using authenticator = new Authenticator(registry.tokens);
    const { token, id } = await createToken(registry.tokens, "test");
    assert.deepEqual(await authenticator.authenticate(`Bearer ${token}`), { tokenId: id });
    assert.deepEqual(await authenticator.authenticate(`bearer  ${token}`), { tokenId: id });
    const wrongSecret = formatToken({ id, secret: generateToken().secret });
    const bad = [
      undefined,
      "",
      token,
      `Basic ${token}`,
      `Bearer ${token}x`,
      "Bearer ",
      `Bearer ${wrongSecret}`,
      `Bearer ${formatToken(generateToken())}`,
    ];
    for (const header of bad)
      await assert.rejects(authenticator.authenticate(header), { code: "unauthorized", status: 401 }, String(header));
    // Another process revokes: no cache may stand in the way.
    await revokeHomeToken(home.path, id);
    await assert.rejects(authenticator.authenticate(`Bearer ${token}`), { code: "unauthorized" });
  });

  test("the time of last use is written lazily, and never moves back", async () => {
    await using home = await temporaryHome();
    await using registry = openSqliteRegistry(join(home.path, "hob.db"));
    let now = 1_000;
    const { token, id } = await createToken(registry.tokens, "test", () => now);
    const authenticator = new Authenticator(registry.tokens, () => now);
    now = 5_000;
    await authenticator.authenticate(`Bearer ${token}`);
    assert.equal((await registry.tokens.findToken(id))?.lastUsedAt, null);
    await authenticator[Symbol.asyncDispose]();
    assert.equal((await registry.tokens.findToken(id))?.lastUsedAt, 5_000);
    await registry.tokens.noteTokenUse(new Map([[id, 3_000]]));
    assert.equal((await registry.tokens.findToken(id))?.lastUsedAt, 5_000);
  });
});
