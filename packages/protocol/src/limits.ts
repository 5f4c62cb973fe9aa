/** Every limit of the wire in one place. Bytes unless the name says otherwise. */
export const LIMITS = {
  /** JSON request bodies of the public API */
  jsonBodyBytes: 1024 * 1024,
  /** one WebSocket message, either way: the SDKs send as one what their user writes to a standard input at once */
  webSocketMessageBytes: 16 * 1024 * 1024,
  /** one data frame that the server sends */
  outputFrameBytes: 64 * 1024,
  /** unsent bytes on one exec connection before reading from the process pauses */
  outputHighWaterBytes: 1024 * 1024,
  /** standard input of one HTTP exec */
  httpExecBodyBytes: 10 * 1024 * 1024,
  /** standard input that waits in the pilot before reading from the client pauses */
  inputHighWaterBytes: 1024 * 1024,
  /** output of one session that is kept for those who attach; older output is dropped */
  sessionJournalBytes: 16 * 1024 * 1024,
  /** one file of it, the unit that is dropped */
  journalSegmentBytes: 1024 * 1024,
  /** output of all sessions together */
  journalsBytes: 256 * 1024 * 1024,
  /** output that a terminal session shows to those who attach without saying from where */
  scrollbackBytes: 256 * 1024,
  /** connections into one sprite at a time, by its URL and by proxies */
  insideConnections: 512,
  labels: 32,
  labelBytes: 128,
  idempotencyKeyBytes: 255,
  /** longest idle time that a sprite may ask for, seconds: 30 days */
  idleTimeoutSeconds: 30 * 24 * 60 * 60,
  /** request target of one exec; `env` and `cmd` travel in it */
  requestTargetBytes: 256 * 1024,
} as const;

/** Machine sizes a sprite may ask for. Memory and disk are sparse: they are taken from the host as they are used. */
export const MACHINE_LIMITS = {
  cpus: { min: 1, max: 16, default: 2 },
  ramMb: { min: 512, max: 65_536, default: 1024 },
  storageGb: { min: 1, max: 1024, default: 100 },
} as const;
