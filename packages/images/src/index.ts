export { type BuildOptions, type BuildProgress, buildImages, defaultCacheDir, type ImageSet, readRecipe } from "./build.ts";
export { ImageCache } from "./cache.ts";
export { DEFAULT_RECIPE, type ImageRecipe, imageRecipe } from "./recipe.ts";
