import type { ServerResponse } from "node:http";
import { HobError } from "@hob/protocol";
import { SPRITE_USER } from "../container/ids.ts";
import type { ExecTarget, FileRequest, FileStream, FileUser, HelperClient } from "../helper/index.ts";

/** What operations on files need to know of the inner container. */
export interface FilesContainer {
  state(): "running" | "stopped";
  /** only called while the state is `running` */
  target(): ExecTarget;
}

export type FileOperationRequest = Omit<FileRequest, "user" | "target"> & { readonly asRoot: boolean };

const SPRITE: FileUser = { name: SPRITE_USER.name, uid: SPRITE_USER.uid, gid: SPRITE_USER.gid };
const ROOT: FileUser = { name: "root", uid: 0, gid: 0 };

/** Starts operations on files inside the container, as the sprite's user or as its root. */
export class FileOperations {
  readonly #helper: Pick<HelperClient, "files">;
  readonly #container: FilesContainer;

  constructor(helper: Pick<HelperClient, "files">, container: FilesContainer) {
    this.#helper = helper;
    this.#container = container;
  }

  /** The caller closes the stream. @throws HobError `container_stopped` | `helper_unreachable` | `invalid_request` */
  async start({ asRoot, ...request }: FileOperationRequest): Promise<FileStream> {
    if (this.#container.state() !== "running") {
      throw new HobError("container_stopped", "files: the sprite's container does not run", { hint: "repeat the request in a moment" });
    }
    return this.#helper.files({ ...request, user: asRoot ? ROOT : SPRITE, target: this.#container.target() });
  }

  /** Runs an operation for a response; it ends with `use`, and when the client goes. */
  async during<T>(response: ServerResponse, request: FileOperationRequest, use: (stream: FileStream) => Promise<T>): Promise<T> {
    const stream = await this.start(request);
    const close = () => stream.close();
    response.once("close", close);
    try {
      if (response.destroyed) throw new HobError("helper_unreachable", "files: the client has gone");
      return await use(stream);
    } finally {
      response.off("close", close);
      stream.close();
    }
  }
}
