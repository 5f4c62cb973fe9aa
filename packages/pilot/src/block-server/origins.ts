import { access, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { HobError } from "@hob/protocol";
import type { Logger } from "pino";
import { z } from "zod";
import type { HelperClient } from "../helper/index.ts";
import { BlockServer, type BlockSource } from "./block-server.ts";

/** The kernel makes 16 when its module is loaded, and more when they are asked for by number (nbd_genl_connect in nbd.c). */
const DEVICES = 64;
/** Milliseconds since a device was last asked for before it may be given up: whoever asked has long put a volume over it, or failed. */
const IDLE_MS = 60_000;
const EBUSY = 16;
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
  log: Pick<Logger, "info" | "warn">;
  /** names of the devices that are put over `/dev/nbdN`. Default: what sysfs says */
  holdersOf?: (index: number) => Promise<readonly string[]>;
  /** resolves when the path is there. Default: by looking */
  appears?: (path: string) => Promise<void>;
  /** milliseconds of a clock that runs evenly */
  now?: () => number;
}

interface Origin {
  readonly index: number;
  readonly server: BlockServer;
}

interface Entry {
  readonly opened: Promise<Origin>;
  /** when somebody asked for it last */
  askedAt: number;
}

/**
 * Block devices whose bytes come from elsewhere: from the object store, in the end. Each name has one device, made when it
 * is first asked for, and given up some time after the last volume over it is gone. The kernel keeps the devices when this
 * process ends; the next one serves them again.
 */
export class Origins implements AsyncDisposable {
  readonly #parts: OriginsParts;
  readonly #now: () => number;
  readonly #origins = new Map<string, Entry>();
  #queue: Promise<unknown> = Promise.resolve();
  #sweeping: NodeJS.Timeout | undefined;

  constructor(parts: OriginsParts) {
    this.#parts = parts;
    this.#now = parts.now ?? (() => performance.now());
  }

  /** Those that there are devices for, or will be in a moment. */
  get names(): string[] {
    return [...this.#origins.keys()];
  }

  /** Serves the devices of a process before this one again. */
  async takeOver(): Promise<void> {
    for (const { name, index, sizeBytes } of await this.#read()) {
      const served = this.#parts.sourceOf(name, sizeBytes).then((source) => this.#serve(source, index, "reconnect"));
      this.#enter(name, served);
    }
    await Promise.all([...this.#origins.values()].map(({ opened }) => opened));
  }

  /**
   * The device of this name. It stays for as long as a volume is put over it, and a minute for that to happen.
   * @throws HobError `volume_unusable` when there are too many, and what the source or the kernel says
   */
  async resolve(name: string): Promise<string> {
    const entry = this.#origins.get(name) ?? this.#open(name);
    entry.askedAt = this.#now();
    return `/dev/nbd${(await entry.opened).index}`;
  }

  /** Gives up the devices that no volume needs any more. @returns how many */
  releaseIdle(): Promise<number> {
    return this.#inOrder(() => this.#releaseIdle());
  }

  /** Ends the servers. The devices stay, and reads of them wait for the next process. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#sweeping);
    await this.#queue;
    const servers = await Promise.allSettled([...this.#origins.values()].map(async ({ opened }) => (await opened).server.close()));
    this.#origins.clear();
    const failure = servers.find((one) => one.status === "rejected");
    if (failure !== undefined) throw failure.reason;
  }

  #open(name: string): Entry {
    const opened = this.#inOrder(async () => {
      if ((await this.#freeIndices()).length === 0) await this.#releaseIdle();
      for (const index of await this.#freeIndices()) {
        const origin = await this.#make(name, index);
        if (origin !== undefined) return origin;
      }
      throw new HobError("volume_unusable", `open a volume over the object store: all ${DEVICES} devices for that are in use`, {
        hint: "delete checkpoints that come from before the sprite was last moved or forked, or look at fewer at a time",
      });
    });
    opened.catch(() => this.#origins.delete(name));
    return this.#enter(name, opened);
  }

  /** undefined: the kernel has not yet let go of the device that had this number */
  async #make(name: string, index: number): Promise<Origin | undefined> {
    const source = await this.#parts.sourceOf(name);
    const records = await this.#read();
    // Before the device: one that nobody knows of would never be served again.
    await this.#write([...records, { name, index, sizeBytes: source.sizeBytes }]);
    try {
      return await this.#serve(source, index, "connect");
    } catch (error) {
      const isTaken = error instanceof HobError && error.details.errno === EBUSY;
      if (!isTaken) await this.#parts.helper.nbd(index, { kind: "disconnect" }).catch(() => {});
      await this.#write(records);
      if (isTaken) return undefined;
      throw error;
    }
  }

  #enter(name: string, opened: Promise<Origin>): Entry {
    const entry = { opened, askedAt: this.#now() };
    this.#origins.set(name, entry);
    this.#sweeping ??= setInterval(() => void this.releaseIdle().catch(() => {}), IDLE_MS).unref();
    return entry;
  }

  async #releaseIdle(): Promise<number> {
    const { holdersOf = holders, log } = this.#parts;
    const isIdle = ({ askedAt }: Entry): boolean => this.#now() - askedAt >= IDLE_MS;
    let released = 0;
    for (const [name, entry] of [...this.#origins]) {
      const origin = isIdle(entry) ? await entry.opened.catch(() => undefined) : undefined;
      if (origin === undefined || (await holdersOf(origin.index)).length > 0 || !isIdle(entry)) continue;
      // At once: whoever asks from now on waits for this to end, and gets another device.
      this.#origins.delete(name);
      try {
        await this.#release(origin);
        released++;
      } catch (err) {
        this.#origins.set(name, entry);
        log.warn({ err, device: origin.index }, "a device over the object store cannot be given up");
      }
    }
    if (released > 0) log.info({ released, left: this.#origins.size }, "devices over the object store are given up");
    return released;
  }

  async #release({ index, server }: Origin): Promise<void> {
    await this.#parts.helper.nbd(index, { kind: "disconnect" });
    await server.close();
    await this.#write((await this.#read()).filter((one) => one.index !== index));
  }

  async #freeIndices(): Promise<number[]> {
    const taken = new Set((await this.#read()).map(({ index }) => index));
    return Array.from({ length: DEVICES }, (_, index) => index).filter((index) => !taken.has(index));
  }

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work);
    this.#queue = result.catch(() => {});
    return result;
  }

  async #serve(source: BlockSource, index: number, kind: "connect" | "reconnect"): Promise<Origin> {
    const { helper, directory, log } = this.#parts;
    const server = await BlockServer.start(join(directory, `origin-${index}.sock`), source, log);
    const connect = () => helper.nbd(index, { kind: "connect", socket: server.path, sizeBytes: source.sizeBytes });
    try {
      if (kind === "connect") await connect();
      // A process that was killed between its record and the device has left none.
      else await helper.nbd(index, { kind, socket: server.path }).catch(connect);
      await (this.#parts.appears ?? appears)(`/dev/nbd${index}`);
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

/** Documentation/ABI/testing/sysfs-block, "holders": devices of the device mapper are links there. */
const holders = (index: number): Promise<readonly string[]> => readdir(`/sys/block/nbd${index}/holders`);

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
