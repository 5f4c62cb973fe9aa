export { type BuildOptions, type BuildProgress, buildImages, defaultCacheDir, type ImageSet, readRecipe } from "./build.ts";
export { ImageCache, isLeftover } from "./cache.ts";
export { bytesOnDisk } from "./disk-usage.ts";
export { entriesInUse } from "./open-files.ts";
export { DEFAULT_RECIPE, type ImageRecipe, imageRecipe } from "./recipe.ts";
export { markUsed, removeUnused } from "./use.ts";
