import { randomBytes } from "node:crypto";
import { HobError } from "@hob/protocol";
import { retrying } from "../util/retry.ts";
import type { CallOptions, ObjectStore, ProbeOptions, StoreCapabilities } from "./object-store.ts";

/** Below it lie the trial objects: one of each probe that is under way, or was cut off. */
export const PROBES = "probe/";

/** How old a trial object is that nobody needs any more: milliseconds; a probe takes seconds. */
export const PROBE_MS_MAX = 60 * 60 * 1000;

/**
 * Tries whether a store honours the conditions of `put`: stores that do not know the headers ignore them, and answer as if
 * all were well.
 */
export async function probeConditionalWrites(store: ObjectStore, options: ProbeOptions = {}): Promise<StoreCapabilities> {
  const key = `${options.prefix ?? ""}${PROBES}${randomBytes(12).toString("hex")}`;
  const put = (text: string, condition?: { ifNoneMatch: "*" } | { ifMatch: string }): Promise<{ etag: string }> =>
    store.put(key, Buffer.from(text), { ...options, ...(condition === undefined ? {} : { condition }) });
  const patient = <R>(work: () => Promise<R>): Promise<R> =>
    retrying({ attempts: 6, firstPauseMs: 100, longestPauseMs: 2000, signal: options.signal }, work);
  // Each step may be done again when its answer is lost: what is to be refused stays so, and what is to succeed begins anew.
  const replaceNew = async (): Promise<boolean> => {
    const { etag } = await put("3");
    return await succeeds(() => put("4", { ifMatch: etag }));
  };
  const createAnew = async (): Promise<boolean> => {
    await store.delete(key, options);
    return await succeeds(() => put("6", { ifNoneMatch: "*" }));
  };
  try {
    const first = await patient(() => put("1"));
    if (await patient(() => succeeds(() => put("2", { ifNoneMatch: "*" }))))
      return lacks("If-None-Match: * replaces an object that exists");
    if (!(await patient(replaceNew))) return lacks("If-Match with the right etag is refused");
    if (await patient(() => succeeds(() => put("5", { ifMatch: first.etag }))))
      return lacks("If-Match with an old etag replaces the object");
    if (!(await patient(createAnew))) return lacks("If-None-Match: * is refused where there is no object");
    return { conditionalWrites: true };
  } finally {
    await store.delete(key, options).catch(() => undefined);
  }
}

const lacks = (reason: string): StoreCapabilities => ({ conditionalWrites: false, reason });

async function succeeds(write: () => Promise<unknown>): Promise<boolean> {
  try {
    await write();
    return true;
  } catch (error) {
    if (error instanceof HobError && (error.code === "precondition_failed" || error.code === "store_unsupported")) return false;
    throw error;
  }
}

/** Stores that were found to have them. */
const capable = new WeakSet<ObjectStore>();

/**
 * Tries it once for each store.
 *
 * @throws HobError `store_unsupported` when two hosts could own one sprite in this store
 */
export async function requireConditionalWrites(store: ObjectStore, options: CallOptions = {}): Promise<void> {
  if (capable.has(store)) return;
  const { conditionalWrites, reason } = await store.probe(options);
  if (conditionalWrites) {
    capable.add(store);
    return;
  }
  throw new HobError(
    "store_unsupported",
    `${store.description} cannot keep sprites: it lacks conditional writes (${reason ?? "unknown"})`,
    {
      hint: "two hosts could write one sprite unnoticed; use a store with If-Match and If-None-Match on PUT, or a directory",
    },
  );
}
