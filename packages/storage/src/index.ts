export * from "./format/documents.ts";
export { sha256 } from "./format/hash.ts";
export { isStorageName, OrgKeys, SpriteKeys } from "./format/keys.ts";
export * from "./format/limits.ts";
export * from "./heads.ts";
export type { DamageHolder } from "./maintenance/damage-holders.ts";
export { type ExportOptions, exportSprite } from "./maintenance/export.ts";
export type { ExportHeader } from "./maintenance/export-records.ts";
export { type Damage, type FsckOptions, type FsckProgress, type FsckReport, fsck } from "./maintenance/fsck.ts";
export { collectGarbage, GC_GRACE_MS, type GcOptions, type GcReport } from "./maintenance/gc.ts";
export { type ImportOptions, type ImportResult, importSprite } from "./maintenance/import.ts";
export {
  type CheckpointFacts,
  fsckAndRepair,
  type LocalState,
  type RepairOptions,
  type RepairSource,
  repairStates,
  type StateRepair,
} from "./maintenance/repair.ts";
export { ChunkMap, type ChunkMapOptions } from "./map/chunk-map.ts";
export * from "./map/chunk-ref.ts";
export { PageStore, type PageStoreOptions } from "./map/page-store.ts";
export { diffMaps, type MapDifference, type MapEntry, toRanges, walkMap } from "./map/traverse.ts";
export type { MapUpdate } from "./map/update.ts";
export { acquire, resumeOwnership } from "./ownership/acquire.ts";
export { automaticNumberOf, numberOf } from "./ownership/checkpoint-number.ts";
export { type ForkOptions, forkSprite } from "./ownership/fork.ts";
export { Ownership } from "./ownership/ownership.ts";
export * from "./ownership/types.ts";
export { BlockReader, type BlockReaderOptions, MAX_READ_BLOCKS } from "./read/block-reader.ts";
export { ChunkLoader, type ChunkLoaderOptions } from "./read/chunk-loader.ts";
export { DiskCache, type DiskCacheOptions } from "./read/disk-cache.ts";
export * from "./read/types.ts";
export { readStart, type StartReads, writeStart } from "./start-record.ts";
export { probeConditionalWrites, requireConditionalWrites } from "./store/conditional-writes.ts";
export { listAll } from "./store/list-all.ts";
export * from "./store/object-store.ts";
export { PrefixStore } from "./store/prefix-store.ts";
export { ReadOnlyStore } from "./store/read-only-store.ts";
export { RetryingStore } from "./store/retrying-store.ts";
export { SpriteStore, type SpriteStoreOptions } from "./store/sprite-store.ts";
export { RecentChunks } from "./upload/recent-chunks.ts";
export * from "./upload/types.ts";
export { Uploader, type UploaderOptions } from "./upload/uploader.ts";
