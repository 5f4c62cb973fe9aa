export { JOURNAL_LIMITS, Journal, type JournalLimits } from "./journal.ts";
export type { OutputRecord } from "./records.ts";
export { type AboutSession, JournalStore, type LeftSession, type StoreOptions } from "./store.ts";
