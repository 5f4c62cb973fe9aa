import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BLOCK_BYTES, type BlockRange, BlockReader, type ObjectStore, PageStore } from "@hob/storage";
import { DirectoryStore } from "@hob/storage/store/directory-store.ts";
import { StateUploader } from "../../src/durability/state-uploader.ts";
import { VolumeUpload } from "../../src/durability/volume-upload.ts";
import type { Ledger } from "../../src/volume/ledger.ts";
import type { ChangedRange } from "../../src/volume/thin-delta.ts";
import type { ThinVolume } from "../../src/volume/thin-volume.ts";

/** Of the volume. */
export const BLOCKS = 8;
export const SIZE_BYTES = BLOCKS * BLOCK_BYTES;

/** A thin device: a letter for what was written to each of its blocks. */
export type Thin = Map<number, string>;

/** "ab.c" as what was written to blocks 0, 1 and 3. */
export const thinOf = (text: string): Thin =>
  new Map([...text].map((letter, block) => [block, letter] as const).filter(([, letter]) => letter !== "."));

/** A volume on a model of the pool, with a real ledger, and its uploads to a real store. */
export class StoredVolume implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "hob-stored-"));
  readonly thins = new Map<number, Thin>();
  /** as the live volume is written to */
  live: Thin = new Map();
  /** what all of them read through to */
  below: Thin = new Map();
  /** snapshots that were compared */
  readonly compared: [from: number | undefined, to: number][] = [];
  /** blocks that a snapshot was said to have alone when it was removed */
  readonly givenBack: number[][] = [];
  onCompare: () => void = () => {};

  get ledgerPath(): string {
    return join(this.folder, "volumes.json");
  }

  openStore(): Promise<DirectoryStore> {
    return DirectoryStore.open(join(this.folder, "store"));
  }

  /** As a pilot has it. */
  volume(ledger: Ledger): ThinVolume {
    const takenOf = new Map<number, number>();
    const snapshotLive = async (thin: number) => {
      this.thins.set(thin, new Map(this.live));
      takenOf.set(thin, ledger.state.live.thin);
    };
    const reap = async (known?: { own: readonly BlockRange[] }) => {
      if (known !== undefined)
        this.givenBack.push(known.own.flatMap(({ first, count }) => Array.from({ length: count }, (_, i) => first + i)));
      for (const thin of ledger.garbage()) this.thins.delete(thin);
    };
    const pool = {
      changedBlocks: (from: number | undefined, to: number) => this.#changes(from, to),
      snapshot: async (thin: number, of: number) => void this.thins.set(thin, this.#thin(of)),
      activateReadOnly: async (thin: number) => ({ device: this.#device(thin), [Symbol.asyncDispose]: async () => {} }),
    };
    const model = { ledger, pool, snapshotLive, reap, sizeBytes: SIZE_BYTES };
    const marks = {
      takenOf: (thin: number) => takenOf.get(thin),
      writtenAt: () => undefined,
      writtenSectors: async () => [...this.live].join(),
    };
    return { ...model, ...marks, resolveOrigin: async () => "/dev/null" } as unknown as ThinVolume;
  }

  upload(volume: ThinVolume, store: ObjectStore, opened: () => readonly string[] = () => []): VolumeUpload {
    // Each time another: what one remembers of the last hour must not be what finds chunks.
    const upload: StateUploader["upload"] = (...state) =>
      new StateUploader({ store, org: "org", pages: new PageStore({ store, org: "org" }) }).upload(...state);
    return new VolumeUpload(
      volume,
      () => ({ upload }),
      (snapshot) => snapshot(),
      opened,
    );
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true });
  }

  async *#changes(from: number | undefined, to: number): AsyncGenerator<ChangedRange> {
    this.compared.push([from, to]);
    this.onCompare();
    const [before, after] = [from === undefined ? new Map() : this.#thin(from), this.#thin(to)];
    for (let block = 0; block < BLOCKS; block++) {
      if (before.get(block) !== after.get(block)) yield { begin: block, length: 1, mapped: after.has(block) };
    }
  }

  #thin(thin: number): Thin {
    return this.thins.get(thin) ?? assert.fail(`there is no thin device ${thin}`);
  }

  #device(thin: number): string {
    const path = join(this.folder, `thin-${thin}`);
    const written = this.#thin(thin);
    const blocks = Array.from({ length: BLOCKS }, (_, block) => blockOf(written.get(block) ?? this.below.get(block) ?? "."));
    writeFileSync(path, Buffer.concat(blocks));
    return path;
  }
}

/** A block of this letter; "." is zeros. */
export const blockOf = (letter: string): Buffer => Buffer.alloc(BLOCK_BYTES, letter === "." ? "\0" : letter);

/** The letters of a state in the store. */
export async function lettersIn(store: ObjectStore, root: string | null): Promise<string> {
  const data = await new BlockReader({ store, org: "org", root }).readRange(0, SIZE_BYTES);
  return Array.from({ length: BLOCKS }, (_, block) => String.fromCharCode(data[block * BLOCK_BYTES] ?? 0).replace("\0", ".")).join("");
}
