import assert from "node:assert/strict";
import { test } from "node:test";
import { runInNewContext } from "node:vm";
import { API_ROUTES, openApiDocument } from "@hob/protocol/api/index.ts";
import { REFERENCE_PAGE, REFERENCE_SCRIPT } from "../src/api/reference-page.ts";
import { TestDaemon, until } from "./support/test-daemon.ts";

/** As much of a document as the page's script asks for. */
class TestElement {
  readonly tag: string;
  readonly children: (TestElement | string)[] = [];
  readonly attributes: Record<string, string> = {};
  readonly listeners: Record<string, () => void> = {};
  hidden = false;
  open = false;
  value = "";
  #own = "";

  constructor(tag: string) {
    this.tag = tag;
  }

  set textContent(text: string) {
    this.#own = text;
  }

  get textContent(): string {
    return this.#own + this.children.map((child) => (typeof child === "string" ? child : child.textContent)).join("");
  }

  setAttribute(name: string, value: string): void {
    this.attributes[name] = value;
  }

  append(...children: (TestElement | string)[]): void {
    this.children.push(...children);
  }

  addEventListener(name: string, listener: () => void): void {
    this.listeners[name] = listener;
  }

  scrollIntoView(): void {}

  all(tag: string): TestElement[] {
    const inner = this.children.filter((child) => typeof child !== "string");
    return [...inner.filter((child) => child.tag === tag), ...inner.flatMap((child) => child.all(tag))];
  }

  querySelector(): TestElement | null {
    return this.all("details").find(({ hidden }) => !hidden) ?? null;
  }
}

test("the page shows every route, finds them, and needs nothing from elsewhere", async () => {
  const byId = new Map<string, TestElement>();
  const named = (id: string) => byId.get(id) ?? byId.set(id, new TestElement("div")).get(id);
  const document = { createElement: (tag: string) => new TestElement(tag), getElementById: named };
  const api = JSON.parse(JSON.stringify(openApiDocument(API_ROUTES, "1.2.3")));
  const fetch = async (url: string) => {
    assert.equal(url, "openapi.json");
    return { json: async () => api };
  };
  runInNewContext(REFERENCE_SCRIPT, { document, fetch, location: { hash: "", origin: "http://hob" }, addEventListener: () => {}, Object });
  const operations = named("operations") ?? assert.fail();
  await until("it is drawn", () => operations.all("details").length > 0);
  const shown = operations.all("summary").map((summary) => summary.textContent);
  for (const { path } of API_ROUTES)
    assert.ok(
      shown.some((text) => text.includes(path)),
      path,
    );
  assert.match(operations.textContent, /idle_timeout_seconds\?: integer \| null/);
  assert.equal(named("version")?.textContent, "1.2.3");
  const search = named("search") ?? assert.fail();
  search.value = "restart sprite";
  search.listeners.input?.();
  const left = operations.all("details").filter(({ hidden }) => !hidden);
  assert.ok(left.length > 0 && left.length < 4 && left.some((each) => each.textContent.includes("/restart")));
  assert.doesNotMatch(REFERENCE_PAGE, /(?:src|href)="(?:https?:)?\/\//);
});

test("both are served without a token, to GET and HEAD only", async () => {
  await using hob = await TestDaemon.start();
  for (const path of ["/docs", "/openapi.json"]) {
    const answer = await fetch(`${hob.url}${path}`);
    assert.equal(answer.status, 200);
    assert.ok((await answer.text()).length > 1_000);
    assert.equal((await fetch(`${hob.url}${path}`, { method: "POST" })).status, 405);
  }
});
