export { type FilesDependencies, FilesEndpoint } from "./endpoint.ts";
export { FileOperations } from "./operations.ts";
