import { access, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { HobError } from "@hob/protocol";
import type { Logger } from "pino";
import { z } from "zod";
import type { HelperClient } from "../helper/index.ts";
import { BlockServer, type BlockSource } from "./block-server.ts";

/** Devices that the kernel makes when its module is loaded; `nbds_max` of the module, nbd(4). */
const DEVICES = 16;
const NODE_TIMEOUT_MS = 5_000;

const record = z.array(
  z.object({
    name: z.string(),
    index: z
      .number()
      .int()
      .min(0)
      .max(DEVICES - 1),
    /** what the kernel was told: a process that takes the device over may not know it yet */
    sizeBytes: z.number().int().min(0),
  }),
);

export interface OriginsParts {
  helper: Pick<HelperClient, "nbd">;
  /** on a tmpfs: what it holds is about this run of the kernel */
  directory: string;
  /**
   * the bytes that a name stands for; called once for each name and process
   * @param sizeBytes of the device that is there already
   */
  sourceOf: (name: string, sizeBytes?: number) => Promise<BlockSource>;
  log: Pick<Logger, "warn">;
}

interface Origin {
  index: number;
  server: BlockServer;
}

/**
 * Block devices whose bytes come from elsewhere: from the object store, in the end. Each name has one device, made when it
 * is first asked for. The kernel keeps the devices when this process ends; the next one serves them again.
 */
export class Origins {
  readonly #parts: OriginsParts;
  readonly #origins = new Map<string, Promise<Origin>>();
  #queue: Promise<unknown> = Promise.resolve();

  constructor(parts: OriginsParts) {
    this.#parts = parts;
  }

  /** Serves the devices of a process before this one again. */
  async takeOver(): Promise<void> {
    for (const { name, index, sizeBytes } of await this.#read()) {
      const source = this.#parts.sourceOf(name, sizeBytes);
      this.#origins.set(
        name,
        source.then((found) => this.#serve(found, index, "reconnect")),
      );
    }
    await Promise.all(this.#origins.values());
  }

  /** The device of this name. @throws HobError `volume_unusable` when there are too many, and what the source or the kernel says */
  async resolve(name: string): Promise<string> {
    const origin = this.#origins.get(name) ?? this.#open(name);
    return `/dev/nbd${(await origin).index}`;
  }

  #open(name: string): Promise<Origin> {
    const opened = this.#queue.then(async () => {
      const records = await this.#read();
      const index = Array.from({ length: DEVICES }, (_, i) => i).find((i) => !records.some((one) => one.index === i));
      if (index === undefined) {
        throw new HobError("volume_unusable", `open a volume over the object store: all ${DEVICES} devices for that are in use`, {
          hint: "delete checkpoints that come from before the sprite was last moved or forked",
        });
      }
      const source = await this.#parts.sourceOf(name);
      // Before the device: one that nobody knows of would never be served again.
      await this.#write([...records, { name, index, sizeBytes: source.sizeBytes }]);
      return await this.#serve(source, index, "connect");
    });
    this.#queue = opened.catch(() => {});
    this.#origins.set(name, opened);
    opened.catch(() => this.#origins.delete(name));
    return opened;
  }

  async #serve(source: BlockSource, index: number, kind: "connect" | "reconnect"): Promise<Origin> {
    const { helper, directory, log } = this.#parts;
    const server = await BlockServer.start(join(directory, `origin-${index}.sock`), source, log);
    const connect = () => helper.nbd(index, { kind: "connect", socket: server.path, sizeBytes: source.sizeBytes });
    try {
      if (kind === "connect") await connect();
      // A process that was killed between its record and the device has left none.
      else await helper.nbd(index, { kind, socket: server.path }).catch(connect);
      await appears(`/dev/nbd${index}`);
      return { index, server };
    } catch (error) {
      await server.close();
      throw error;
    }
  }

  get #path(): string {
    return join(this.#parts.directory, "origins.json");
  }

  async #read(): Promise<z.infer<typeof record>> {
    const text = await readFile(this.#path, "utf8").catch(() => "[]");
    return record.parse(JSON.parse(text));
  }

  async #write(value: z.infer<typeof record>): Promise<void> {
    await writeFile(`${this.#path}.new`, JSON.stringify(value));
    await rename(`${this.#path}.new`, this.#path);
  }
}

/** devtmpfs makes a node when the kernel has the device. */
async function appears(path: string): Promise<void> {
  const deadline = performance.now() + NODE_TIMEOUT_MS;
  for (;;) {
    const found = await access(path).then(
      () => true,
      () => false,
    );
    if (found) return;
    if (performance.now() > deadline) throw new HobError("volume_unusable", `open ${path}: the kernel has no such device`);
    await sleep(10);
  }
}
