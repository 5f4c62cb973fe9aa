import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { DEFAULT_RECIPE, imageRecipe, readRecipe } from "../src/index.ts";

const folder = await mkdtemp(join(tmpdir(), "hob-recipe-"));
after(() => rm(folder, { recursive: true, force: true }));

async function recipeFile(text: string): Promise<string> {
  const path = join(folder, "recipe.json");
  await writeFile(path, text);
  return path;
}

test("the default recipe keeps its own rules, and names no package twice in one list", () => {
  assert.deepEqual(imageRecipe.parse(DEFAULT_RECIPE), DEFAULT_RECIPE);
  for (const list of [DEFAULT_RECIPE.rootNamespace, DEFAULT_RECIPE.systemBase, DEFAULT_RECIPE.languages])
    assert.deepEqual([...new Set(list)], list);
  const base = new Set(DEFAULT_RECIPE.systemBase);
  assert.deepEqual(
    DEFAULT_RECIPE.languages.filter((name) => base.has(name)),
    [],
    "a package is in one layer",
  );
});

test("a recipe file may hold any part of a recipe", async () => {
  assert.deepEqual(await readRecipe(await recipeFile("{}")), {});
  const part = { suite: "bookworm", mirror: "http://mirror.example/debian", languages: ["golang"] };
  assert.deepEqual(await readRecipe(await recipeFile(JSON.stringify(part))), part);
});

test("a recipe that is malformed is refused with the file's name and what is wrong", async () => {
  const cases: [text: string, says: RegExp][] = [
    ["{", /JSON/i],
    ["[]", /object/],
    ['{"suit":"trixie"}', /suit/],
    ['{"suite":"trixie; rm -rf /"}', /suite/],
    ['{"suite":13}', /suite/],
    ['{"mirror":"not a url"}', /mirror/],
    ['{"languages":"golang"}', /languages/],
    ['{"languages":[1]}', /languages/],
  ];
  for (const [text, says] of cases) {
    const path = await recipeFile(text);
    await assert.rejects(readRecipe(path), (error: Error & { code?: string }) => {
      assert.equal(error.code, "invalid_request", text);
      assert(error.message.includes(path), text);
      assert.match(error.message, says, text);
      return true;
    });
  }
});

test("a recipe file that is not there is an error, not an empty recipe", async () => {
  await assert.rejects(readRecipe(join(folder, "none.json")), { code: "invalid_request", message: /none\.json.*ENOENT/ });
});
