import { setTimeout as sleep } from "node:timers/promises";
import type { Identity } from "@hob/protocol";
import type { Logger } from "pino";
import type { Vm } from "../vmm/driver.ts";
import { rememberIdentity } from "./boot-config.ts";
import { type SpriteEntries, type SpriteEntry, withNewestPolicies } from "./entries.ts";
import type { Leftovers } from "./leftovers.ts";
import { aliveness } from "./machine.ts";
import type { SpriteFiles } from "./paths.ts";
import { PilotClient } from "./pilot-client.ts";
import { forgetRest } from "./rest.ts";
import type { MachineSpec } from "./sprite-runtime.ts";
import type { StorageLink, StorageLinks } from "./storage-link.ts";
import { type AskAgain, verifyLater } from "./verify-later.ts";

const GREETING_TIMEOUT_MS = 15_000;
/** Milliseconds between looks at a VM that waits for room on the host's disk. */
const LOOK_MS = 500;

export interface AdoptionParts {
  links: StorageLinks;
  entries: SpriteEntries;
  leftovers: Leftovers;
  log: Logger;
  askAgainMs?: AskAgain | undefined;
  lookMs?: number | undefined;
  /** opens the pilot's way to the object store */
  connect: (entry: SpriteEntry, identity: Identity, vm: Vm, link: StorageLink) => void;
  /** makes it the sprite's VM */
  attach: (entry: SpriteEntry, identity: Identity, vm: Vm, link: StorageLink) => void;
  /** another host owns the sprite */
  onLost: (entry: SpriteEntry, vm: Vm) => void;
}

export interface Adopted {
  entry: SpriteEntry;
  identity: Identity;
  machine: MachineSpec;
  files: SpriteFiles;
  vm: Vm;
}

/**
 * Takes over a VM of an earlier daemon if its pilot answers, and ends it else. One that waits for room on the disk cannot answer before there is
 * some: it is the sprite's, as it would be had this daemon started it. Nothing of it reaches a store that does not say whose it is.
 */
export async function takeOverVm(parts: AdoptionParts, adopted: Adopted): Promise<void> {
  const { links, leftovers, log, connect, attach, onLost, askAgainMs } = parts;
  const { entry, identity, machine, files, vm } = adopted;
  let link: StorageLink | undefined;
  try {
    const found = await links.forRunning(files, entry.id, machine);
    link = found.link;
    if (found.isVerified) connect(entry, identity, vm, link);
    // A volume that is still the template's cannot be used before it is the sprite's.
    const mayWait = vm.isStalled && link.assignment.base === undefined;
    if (mayWait) await forgetRest(files);
    else await greet(adopted, link);
    attach(entry, identity, vm, link);
    if (mayWait) greetLater(parts, adopted, link);
    if (found.isVerified) return;
    const onOwned = () => connect(entry, identity, vm, found.link);
    verifyLater({ vm, link, onOwned, onLost: () => onLost(entry, vm), askAgainMs, log: log.child({ id: entry.id }) });
  } catch (error) {
    log.warn({ id: entry.id, err: error }, "a VM of an earlier daemon does not answer, or another host owns its sprite; it is ended");
    link?.[Symbol.dispose]();
    await leftovers.clear(entry, vm);
  }
}

async function greet({ entry, identity, files, vm }: Adopted, link: StorageLink): Promise<void> {
  const pilot = new PilotClient(vm.pilotPort, identity.pilotToken);
  const isAlive = aliveness(vm);
  await pilot.waitUntilReady(GREETING_TIMEOUT_MS, isAlive);
  // The earlier daemon may have died in the middle of a save, or between the restore and this; once more does no harm.
  await forgetRest(files);
  await pilot.resumed(withNewestPolicies(entry, identity), link.told, GREETING_TIMEOUT_MS, isAlive);
  await link.settle(pilot);
  await rememberIdentity(files.bootConfig, identity, link.settled);
}

/** When it goes on. A pilot that does not answer then is no worse than one of this daemon's own that does not: who asks for it finds out. */
function greetLater({ entries, log, lookMs = LOOK_MS }: AdoptionParts, adopted: Adopted, link: StorageLink): void {
  const { entry, vm } = adopted;
  log.warn({ id: entry.id }, "a VM of an earlier daemon stands still because the disk is full; it goes on when there is room");
  const isAlive = aliveness(vm);
  const wait = async () => {
    while (vm.isStalled && isAlive()) await sleep(lookMs, undefined, { ref: false });
    if (isAlive()) await entries.inOrder(entry.id, async () => entry.vm === vm && (await greet(adopted, link)));
  };
  wait().catch((error: unknown) => log.warn({ id: entry.id, err: error }, "a VM that had stood still does not answer"));
}
