import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ErrorBody, Sprite, SpriteList } from "@hob/protocol";
import { outputOf } from "./support/exec.ts";
import { useDaemon } from "./support/suite.ts";

const LIMIT = { timeout: 60_000 };
const VERSION_HEADER = "sprite-version";

const suite = useDaemon({ flags: ["--max-running", "4"] });
const api = () => suite.daemon;

const bodyOf = async <T>(response: Response): Promise<T> => (await response.json()) as T;

/** Checks the answer of a refusal: status, code, and a text for people. */
async function assertRefused(response: Response, status: number, code: string): Promise<ErrorBody> {
  const body = await bodyOf<ErrorBody>(response);
  assert.deepEqual([response.status, body.error], [status, code], JSON.stringify(body));
  assert.ok(body.message.length > 10, "a message");
  assert.ok(response.headers.get(VERSION_HEADER), "Sprite-Version");
  return body;
}

describe("create", () => {
  test("201 with the sprite, which runs", LIMIT, async () => {
    const response = await api().create({ name: "alpha", labels: ["blue"], config: { storage_gb: 100 } });
    assert.equal(response.status, 201);
    assert.match(response.headers.get(VERSION_HEADER) ?? "", /^v\d/);
    const sprite = await bodyOf<Sprite>(response);
    assert.deepEqual([sprite.name, sprite.status, sprite.labels], ["alpha", "running", ["blue"]]);
    assert.match(sprite.url, /^http:\/\/alpha\./);
    assert.ok(Math.abs(Date.now() - Date.parse(sprite.created_at)) < 60_000);
    assert.equal(await outputOf(suite.sprite("alpha"), "echo up"), "up");
  });

  test("a taken name is refused", LIMIT, async () => {
    const body = await assertRefused(await api().create({ name: "alpha" }), 400, "name_taken");
    assert.match(body.message, /alpha/);
  });

  test("names that are no DNS label are refused, and nothing is made", LIMIT, async () => {
    for (const name of ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "a b", "ä", "x".repeat(64), 5, null]) {
      const response = await api().create({ name });
      assert.equal(response.status, 400, String(name));
      assert.match((await bodyOf<ErrorBody>(response)).error, /^invalid_/);
    }
    assert.equal(api().vmProcesses("qemu").length, 1);
  });

  test("sizes out of range and broken JSON are refused", LIMIT, async () => {
    await assertRefused(await api().create({ name: "b", config: { ram_mb: 1 } }), 400, "invalid_request");
    await assertRefused(await api().create({ name: "b", config: { cpus: 1000 } }), 400, "invalid_request");
    await assertRefused(await api().fetch("/v1/sprites", { method: "POST", body: "{" }), 400, "invalid_request");
  });

  test("a repeated request with the same Idempotency-Key makes one sprite", LIMIT, async () => {
    const headers = { "idempotency-key": "key-1" };
    const [first, second] = await Promise.all([1, 2].map(() => api().create({ name: "beta" }, headers)));
    assert.deepEqual([first?.status, second?.status], [201, 201]);
    const third = await api().create({ name: "beta" }, headers);
    const ids = await Promise.all([first, second, third].map(async (response) => (await bodyOf<Sprite>(response as Response)).id));
    assert.equal(new Set(ids).size, 1);
    await assertRefused(await api().create({ name: "gamma" }, headers), 400, "idempotency_mismatch");
    assert.equal(api().vmProcesses("qemu").length, 2);
  });
});

describe("read and change", () => {
  test("get; an unknown name is 404", LIMIT, async () => {
    const sprite = await bodyOf<Sprite>(await api().fetch("/v1/sprites/alpha"));
    assert.equal(sprite.name, "alpha");
    await assertRefused(await api().fetch("/v1/sprites/nobody"), 404, "not_found");
    await assertRefused(await api().fetch("/v1/nothing"), 404, "not_found");
  });

  test("list by prefix, and page by page", LIMIT, async () => {
    const list = async (query: string) => bodyOf<SpriteList>(await api().fetch(`/v1/sprites${query}`));
    const names = ({ sprites }: SpriteList) => sprites.map(({ name }) => name);
    assert.deepEqual(names(await list("")), ["alpha", "beta"]);
    assert.deepEqual(names(await list("?prefix=be")), ["beta"]);
    assert.deepEqual(names(await list("?prefix=zz")), []);
    const first = await list("?max_results=1");
    assert.deepEqual([names(first), first.has_more], [["alpha"], true]);
    const second = await list(`?max_results=1&continuation_token=${encodeURIComponent(first.next_continuation_token ?? "")}`);
    assert.deepEqual([names(second), second.has_more, second.next_continuation_token], [["beta"], false, undefined]);
    assert.deepEqual([first.org.running, first.running_limit], [2, 4]);
    const throughSdk = await api().sdk().listAllSprites();
    assert.deepEqual(
      throughSdk.map(({ name }) => name),
      ["alpha", "beta"],
    );
  });

  test("labels and who may reach the URL", LIMIT, async () => {
    const put = (body: object) => api().fetch("/v1/sprites/alpha", { method: "PUT", body: JSON.stringify(body) });
    const changed = await bodyOf<Sprite>(await put({ labels: ["red", "new"], url_settings: { auth: "public" } }));
    assert.deepEqual([changed.labels, changed.url_settings.auth], [["red", "new"], "public"]);
    const read = await bodyOf<Sprite>(await api().fetch("/v1/sprites/alpha"));
    assert.deepEqual([read.labels, read.url_settings.auth], [["red", "new"], "public"]);
    const cleared = await bodyOf<Sprite>(await put({ clear_labels: true }));
    assert.deepEqual([cleared.labels ?? [], cleared.url_settings.auth], [[], "public"]);
    await assertRefused(await put({ url_settings: { auth: "everybody" } }), 400, "invalid_request");
  });

  test("answers that come from inside the sprite carry the version too", LIMIT, async () => {
    const response = await api().fetch("/v1/sprites/alpha/bounce", { method: "GET" });
    assert.ok(response.status >= 400);
    assert.match(response.headers.get(VERSION_HEADER) ?? "", /^v\d/);
    const executed = await api().fetch("/v1/sprites/alpha/exec?cmd=true", { method: "POST" });
    assert.match(executed.headers.get(VERSION_HEADER) ?? "", /^v\d/);
    await executed.arrayBuffer();
  });
});

describe("delete", () => {
  test("204, then 404; the VM and its files are gone, and the name is free", LIMIT, async () => {
    const { id } = await bodyOf<Sprite>(await api().fetch("/v1/sprites/beta"));
    assert.ok(api().spriteFolders().includes(id));
    const response = await api().fetch("/v1/sprites/beta", { method: "DELETE" });
    assert.equal(response.status, 204);
    assert.ok(!api().spriteFolders().includes(id));
    assert.equal(api().vmProcesses("qemu").length, 1);
    await assertRefused(await api().fetch("/v1/sprites/beta"), 404, "not_found");
    await assertRefused(await api().fetch("/v1/sprites/beta", { method: "DELETE" }), 404, "not_found");
    assert.equal((await api().create({ name: "beta" })).status, 201);
    const again = await bodyOf<Sprite>(await api().fetch("/v1/sprites/beta"));
    assert.notEqual(again.id, id);
  });
});

describe("tokens", () => {
  const listWith = (authorization: string) => api().fetch("/v1/sprites", { headers: { authorization } });

  test("none, a wrong one and another scheme are refused", LIMIT, async () => {
    for (const authorization of ["", "Bearer ", "Bearer hob/x/y", "Basic aGk6aGk=", `Bearer ${api().token}x`]) {
      await assertRefused(await listWith(authorization), 401, "unauthorized");
    }
    await assertRefused(await api().fetch("/v1/sprites/alpha/exec", { headers: { authorization: "Bearer no" } }), 401, "unauthorized");
  });

  test("made, listed and revoked with the CLI; a revoked one is refused at once", LIMIT, async () => {
    const created = await api().hob("token", "create", "for the test", "--json");
    assert.equal(created.code, 0, created.stderr);
    const { id, token } = JSON.parse(created.stdout) as { id: string; token: string };
    assert.equal((await listWith(`Bearer ${token}`)).status, 200);
    const listed = await api().hob("token", "list", "--json");
    const entry = (JSON.parse(listed.stdout) as { id: string; description: string }[]).find((one) => one.id === id);
    assert.equal(entry?.description, "for the test");
    assert.ok(!listed.stdout.includes(token), "a list never shows secrets");
    assert.equal((await api().hob("token", "revoke", id)).code, 0);
    await assertRefused(await listWith(`Bearer ${token}`), 401, "unauthorized");
    assert.equal((await listWith(`Bearer ${api().token}`)).status, 200);
  });
});
