export { type FilesDependencies, FilesEndpoint } from "./endpoint.ts";
