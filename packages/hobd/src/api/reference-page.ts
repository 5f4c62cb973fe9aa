/** The page at /docs: shows /openapi.json to people. Everything is in it, and everything that it shows is set as text. */

export const REFERENCE_STYLE = `
:root { color-scheme: light dark; --line: #8884; --dim: #777; --accent: #0a7; }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; display: grid; grid-template-columns: 19rem 1fr; min-height: 100vh; }
nav { border-right: 1px solid var(--line); padding: 1rem; position: sticky; top: 0; height: 100vh; overflow-y: auto; }
main { padding: 1rem 2rem 4rem; max-width: 62rem; min-width: 0; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: .95rem; margin: 1rem 0 .25rem; }
nav h4 { margin: 1rem 0 .25rem; font-size: .85rem; color: var(--dim); }
nav a { display: block; text-decoration: none; color: inherit; font: 12.5px/1.7 ui-monospace, monospace; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
nav a:hover, nav a:focus { color: var(--accent); }
input { width: 100%; padding: .4rem .6rem; font: inherit; border: 1px solid var(--line); border-radius: 6px; background: transparent; color: inherit; }
details { border: 1px solid var(--line); border-radius: 8px; margin: .6rem 0; }
summary { cursor: pointer; padding: .5rem .8rem; display: flex; gap: .7rem; align-items: baseline; flex-wrap: wrap; }
summary code { font-weight: 600; overflow-wrap: anywhere; }
.body { padding: 0 1rem 1rem; }
.method { font: 700 12px ui-monospace, monospace; min-width: 3.4rem; color: var(--accent); }
.tag { font-size: 11px; border: 1px solid var(--line); border-radius: 99px; padding: 0 .5rem; color: var(--dim); }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); }
th { font-size: .8rem; color: var(--dim); }
pre { overflow-x: auto; padding: .6rem .8rem; background: #8881; border-radius: 6px; font: 12.5px/1.5 ui-monospace, monospace; margin: .3rem 0; }
.dim { color: var(--dim); }
[hidden] { display: none !important; }
@media (max-width: 48rem) { body { display: block; } nav { position: static; height: auto; border: 0; } nav a, nav h4 { display: none; } main { padding: 1rem; } }
`;

export const REFERENCE_SCRIPT = `
"use strict";
const element = (name, attributes, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  for (const child of children) if (child !== undefined && child !== "") made.append(child);
  return made;
};

/* A schema as a person reads it: one line a field. */
const describe = (schema, indent) => {
  if (!schema) return "any";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.length > 12 ? "string" : schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const variants = schema.anyOf || schema.oneOf;
  if (variants) return variants.map((each) => describe(each, indent)).join(" | ");
  if (Array.isArray(schema.type)) return schema.type.join(" | ");
  if (schema.type === "array") return describe(schema.items, indent) + "[]";
  if (schema.type === "object" && schema.properties) {
    const inner = indent + "  ";
    const lines = Object.entries(schema.properties).map(([name, value]) => {
      const optional = (schema.required || []).includes(name) ? "" : "?";
      const note = [value.description, value.minimum !== undefined && value.minimum > -1e15 ? "from " + value.minimum : "", value.maximum !== undefined && value.maximum < 1e15 ? "to " + value.maximum : "", value.maxLength ? "at most " + value.maxLength + " characters" : "", value.pattern && !value.format ? value.pattern : ""].filter(Boolean).join(", ");
      return inner + name + optional + ": " + describe(value, inner) + (note ? "   // " + note : "");
    });
    return lines.length ? "{\\n" + lines.join("\\n") + "\\n" + indent + "}" : "{}";
  }
  if (schema.type === "object" && typeof schema.additionalProperties === "object") return "{ [name]: " + describe(schema.additionalProperties, indent) + " }";
  return schema.format ? schema.type + " (" + schema.format + ")" : schema.type || "any";
};

const content = (media) => Object.entries(media || {}).map(([type, { schema }]) =>
  element("div", {}, element("div", { class: "dim" }, type + (type.includes("ndjson") ? ": each line" : "")), schema ? element("pre", {}, describe(schema, "")) : ""));

const table = (titles, rows) => element("table", {},
  element("tr", {}, ...titles.map((title) => element("th", {}, title))),
  ...rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell)))));

const example = (method, path, operation) => {
  const lines = ["curl" + (method === "GET" ? "" : " -X " + method) + " " + location.origin + path];
  if (!operation.security) lines.push('-H "Authorization: Bearer $TOKEN"');
  if (operation.requestBody && operation.requestBody.content["application/json"]) lines.push("-d '{}'");
  return lines.join(" \\\\\\n  ");
};

const show = (method, path, operation) => {
  const body = element("div", { class: "body" }, element("p", {}, operation.summary));
  const socket = operation["x-websocket"];
  if (socket) body.append(element("p", { class: "dim" }, "Upgrades to a WebSocket; its frames: " + socket.docs));
  const parameters = operation.parameters || [];
  if (parameters.length) body.append(element("h3", {}, "Parameters"), table(["name", "in", "type", ""], parameters.map((parameter) =>
    [element("code", {}, parameter.name + (parameter.required ? "" : "?")), parameter.in, describe(parameter.schema, ""), parameter.description || ""])));
  if (operation.requestBody) body.append(element("h3", {}, "Body"), ...content(operation.requestBody.content));
  body.append(element("h3", {}, "Answers"));
  for (const [status, answer] of Object.entries(operation.responses)) {
    body.append(element("p", {}, element("strong", {}, status), " " + answer.description));
    if (Number(status) < 400) body.append(...content(answer.content));
  }
  if (!socket) body.append(element("h3", {}, "Example"), element("pre", {}, example(method, path, operation)));
  const id = operation.operationId;
  const head = element("summary", {}, element("span", { class: "method" }, socket ? "WSS" : method), element("code", {}, path));
  if (operation["x-hob-extension"]) head.append(element("span", { class: "tag" }, "Hob's own"));
  if (operation.security) head.append(element("span", { class: "tag" }, "no token"));
  return element("details", { id }, head, body);
};

const openNamed = () => {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named) { named.open = true; named.scrollIntoView(); }
};

fetch("openapi.json").then((answer) => answer.json()).then((api) => {
  const [main, list, search] = ["operations", "list", "search"].map((id) => document.getElementById(id));
  document.getElementById("about").textContent = api.info.description;
  document.getElementById("version").textContent = api.info.version;
  const entries = [];
  for (const { name } of api.tags) {
    const [section, links] = [element("section", {}, element("h2", {}, name)), element("div", {}, element("h4", {}, name))];
    for (const [path, item] of Object.entries(api.paths)) for (const [verb, operation] of Object.entries(item)) {
      if (operation.tags[0] !== name) continue;
      const method = verb.toUpperCase();
      const shown = show(method, path, operation);
      const link = element("a", { href: "#" + operation.operationId, title: operation.summary }, method + " " + path.replace("/v1/sprites/{name}", "…"));
      section.append(shown);
      links.append(link);
      entries.push({ text: [method, path, operation.summary, name].join(" ").toLowerCase(), shown, link, section, links });
    }
    main.append(section);
    list.append(links);
  }
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\\s+/).filter(Boolean);
    for (const entry of entries) entry.shown.hidden = entry.link.hidden = !words.every((word) => entry.text.includes(word));
    for (const { section, links } of entries) section.hidden = links.hidden = !section.querySelector("details:not([hidden])");
  });
  addEventListener("hashchange", openNamed);
  openNamed();
}).catch((error) => { document.getElementById("about").textContent = "The description could not be loaded: " + error.message; });
`;

export const REFERENCE_PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hob API</title>
<style>${REFERENCE_STYLE}</style>
</head>
<body>
<nav>
<h1>Hob API <span class="dim" id="version"></span></h1>
<input id="search" type="search" placeholder="Search routes" aria-label="Search routes" autofocus>
<div id="list"></div>
</nav>
<main>
<p id="about">Loading…</p>
<p class="dim">As a document: <a href="openapi.json">openapi.json</a></p>
<div id="operations"></div>
</main>
<script>${REFERENCE_SCRIPT}</script>
</body>
</html>
`;
