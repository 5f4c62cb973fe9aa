import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const DIST = dirname(fileURLToPath(import.meta.resolve("@fly/sprites")));

/**
 * Every public method and function of the SDK, as its type declarations have them: `Class.method`, `Class.static`,
 * `function`. Properties and accessors are none.
 */
export function sdkMethods(): string[] {
  const index = readFileSync(join(DIST, "index.d.ts"), "utf8");
  const found = new Set<string>();
  for (const [, names = "", file = ""] of index.matchAll(/^export \{([^}]*)\} from '\.\/(\w+)\.js'/gm)) {
    const declarations = readFileSync(join(DIST, `${file}.d.ts`), "utf8");
    for (const name of names
      .split(",")
      .map((each) => each.trim().replace(/^type /, ""))
      .filter(Boolean)) {
      for (const method of methodsOf(name, declarations)) found.add(method);
      if (new RegExp(`^export declare (?:async )?function ${name}\\b`, "m").test(declarations)) found.add(name);
    }
  }
  return [...found].sort();
}

function methodsOf(name: string, declarations: string): string[] {
  const body = new RegExp(`^export declare class ${name}\\b[^{]*\\{\\n([\\s\\S]*?)^\\}`, "m").exec(declarations)?.[1] ?? "";
  const methods = body.matchAll(/^ {4}(?:static )?(\w+)(?:<[^>]*>)?\(/gm);
  return [...methods]
    .map(([, method = ""]) => method)
    .filter((method) => method !== "constructor")
    .map((method) => `${name}.${method}`);
}
