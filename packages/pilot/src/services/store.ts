import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { readJsonFile, removeDurably, writeDurably } from "../durable-file.ts";
import { type ServiceDefinition, storedService, toDefinition, toStored } from "./definition.ts";

export interface StoredService {
  readonly definition: ServiceDefinition;
  /** its user stopped it: it is not started before its user starts it */
  readonly stopped: boolean;
}

/** Definitions on the volume, one file each. A damaged file counts as none: the other services come up without it. */
export class ServiceStore {
  readonly #directory: string;

  /** @param directory is made when it is needed */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** @returns what is there, by name; `damaged` are the files that could not be read */
  async load(): Promise<{ services: StoredService[]; damaged: string[] }> {
    const files = await readdir(this.#directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return [];
      throw error;
    });
    const services: StoredService[] = [];
    const damaged: string[] = [];
    for (const file of files.filter((name) => name.endsWith(".json")).sort()) {
      const parsed = storedService.safeParse(await readJsonFile(join(this.#directory, file)));
      if (!parsed.success || this.#fileOf(parsed.data.name) !== join(this.#directory, file)) damaged.push(file);
      else services.push({ definition: toDefinition(parsed.data.name, parsed.data.definition), stopped: parsed.data.stopped });
    }
    return { services, damaged };
  }

  async save({ definition, stopped }: StoredService): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeDurably(this.#fileOf(definition.name), JSON.stringify(toStored(definition, stopped)));
  }

  async remove(name: string): Promise<void> {
    await removeDurably(this.#fileOf(name));
  }

  #fileOf(name: string): string {
    return join(this.#directory, `${name}.json`);
  }
}
