/**
 * Writes the documents that are made from code: docs/errors.md from the error catalogue, docs/openapi.json and
 * docs/conformance.md from the route descriptions and the tests, docs/api/default-domains.md from the list of what network
 * policies include.
 * `--check` writes nothing and fails when a document is not what the code says.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { DEFAULT_DOMAINS, ERROR_CATALOGUE, HOB_VERSION } from "@hob/protocol";
import { API_ROUTES, openApiDocument } from "@hob/protocol/api/index.ts";
import { conformancePage, findCoverage } from "./lib/conformance.ts";
import { PROJECT } from "./lib/steps.ts";

const DOCUMENTS = [
  { path: "docs/errors.md", text: errorsPage() },
  { path: "docs/openapi.json", text: `${JSON.stringify(openApiDocument(API_ROUTES, HOB_VERSION), null, 2)}\n` },
  { path: "docs/conformance.md", text: conformancePage(findCoverage()) },
  { path: "docs/api/default-domains.md", text: defaultDomainsPage() },
];

function errorsPage(): string {
  const rows = Object.entries(ERROR_CATALOGUE).map(
    ([code, { status, retryable, summary }]) => `| \`${code}\` | ${status} | ${retryable ? "yes" : "no"} | ${summary} |`,
  );
  return `# Errors

This page is written by \`scripts/docs.ts\` from \`packages/protocol/src/errors.ts\`. Do not edit it: change the catalogue and run
\`npm run docs\`.

Every error of Hob has one of these codes. Over HTTP the body of an error answer is JSON: \`error\` is the code, \`message\` says
operation, object and what happened, \`hint\` (not always there) what to do; further facts stand flat beside them, such as
\`limit\`, \`current_count\` and \`retry_after_seconds\` of \`concurrent_sprite_limit_exceeded\`. The CLI prints message and hint on
standard error and exits with 2 for \`usage\`, with 1 for all others; \`HOB_DEBUG=1\` adds the stack.

"Retry" says whether the same request, unchanged, may succeed later. Codes are added, never renamed or used for something else.
Where a code never leaves the process that met it, its status has no meaning to clients.

| code | status | retry | meaning |
| --- | --- | --- | --- |
${rows.join("\n")}
`;
}

function defaultDomainsPage(): string {
  const rows = Object.entries(DEFAULT_DOMAINS).map(
    ([what, domains]) => `| ${what} | ${domains.map((domain) => `\`${domain}\``).join(" ")} |`,
  );
  return `# Names that \`{"include":"defaults"}\` allows

This page is written by \`scripts/docs.ts\` from \`packages/protocol/src/api/default-domains.ts\`. [policies.md](policies.md) says what
the patterns mean. A later version of Hob may know more names; a sprite takes its list from the version of its images.

| for | names |
| --- | --- |
${rows.join("\n")}
`;
}

const isCurrent = (path: string, text: string): boolean => {
  try {
    return readFileSync(path, "utf8") === text;
  } catch {
    return false;
  }
};

for (const { path, text } of DOCUMENTS) {
  if (isCurrent(PROJECT + path, text)) continue;
  if (process.argv.includes("--check")) {
    console.error(`${path} is not what the code says; 'npm run docs' writes it anew`);
    process.exitCode = 1;
  } else {
    writeFileSync(PROJECT + path, text);
    console.log(`wrote ${path}`);
  }
}
