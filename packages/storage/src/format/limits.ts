/** Sizes of the storage format (docs/formats/storage.md). A change of one of the first four is a new version of the format. */

/** Bytes of the volume that one chunk holds: one block of the thin pool. */
export const BLOCK_BYTES = 64 * 1024;

/** Entries of a page of the chunk map. */
export const MAP_FANOUT = 256;

/** Levels of a chunk map: every map has as many, so a page's level says which blocks it covers. */
export const MAP_LEVELS = 3;

/** Blocks of the largest volume: MAP_FANOUT ** MAP_LEVELS, 1 TiB. */
export const MAX_BLOCKS = MAP_FANOUT ** MAP_LEVELS;

export const MAX_PACK_BYTES = 32 * 1024 * 1024;

/** Chunks of one pack: as many as fit one pack when each compresses to almost nothing. */
export const MAX_PACK_CHUNKS = 65_536;

/** A JSON document of the format. */
export const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024;

/** Checkpoints that one sprite may have. */
export const MAX_CHECKPOINTS = 10_000;

/** Largest number in the name of a checkpoint: 15 digits. */
export const MAX_CHECKPOINT_NUMBER = 10 ** 15 - 1;

/** Bases that a head may name: one for each checkpoint, and what is in use besides. */
export const MAX_BASES = MAX_CHECKPOINTS + 100;

/** Blocks that the record of a start may name: 16 MiB. */
export const MAX_START_BLOCKS = 256;

/** Largest object that Hob writes, and the most that a read takes into memory unless it asks for less. */
export const MAX_OBJECT_BYTES = MAX_PACK_BYTES;
