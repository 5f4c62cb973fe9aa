import { setTimeout as sleep } from "node:timers/promises";
import { toHobError } from "@hob/protocol";
import type { Logger } from "pino";
import type { Vm } from "../vmm/driver.ts";
import { aliveness } from "./machine.ts";
import { isOwnershipLost, type StorageLink } from "./storage-link.ts";

/** Milliseconds: at first, doubled each time, and at last. */
export interface AskAgain {
  first: number;
  last: number;
}

const ASK_AGAIN_MS: AskAgain = { first: 500, last: 15_000 };

export interface VerifyLaterParts {
  vm: Vm;
  link: Pick<StorageLink, "verify">;
  onOwned: () => void;
  onLost: () => void;
  askAgainMs?: AskAgain | undefined;
  log: Pick<Logger, "info" | "warn" | "error">;
}

/**
 * Asks until the store says whose the sprite of a VM is, or the VM has ended. A store that has nothing of it, or something older, is not
 * the one that it belongs to, as while a disk is not mounted: it says nothing either.
 */
export function verifyLater(parts: VerifyLaterParts): void {
  const { onOwned, onLost, log } = parts;
  log.warn("the object store does not say whether the sprite is still this host's; its VM runs on until it does");
  ask(parts).then(
    (outcome) => {
      if (outcome === "owned") onOwned();
      if (outcome === "lost") onLost();
    },
    (error: unknown) => log.error({ err: error }, "it is not found out whose the sprite is"),
  );
}

async function ask({ vm, link, askAgainMs = ASK_AGAIN_MS, log }: VerifyLaterParts): Promise<"owned" | "lost" | "ended"> {
  const runs = aliveness(vm);
  let said = "";
  for (let pauseMs = askAgainMs.first; ; pauseMs = Math.min(pauseMs * 2, askAgainMs.last)) {
    await sleep(pauseMs, undefined, { ref: false });
    if (!runs()) return "ended";
    try {
      await link.verify();
      log.info("the object store says that the sprite is still this host's");
      return "owned";
    } catch (error) {
      if (isOwnershipLost(error)) return "lost";
      const { code } = toHobError(error);
      if (code !== said) log.warn({ err: error }, "the object store does not say yet whose the sprite is");
      said = code;
    }
  }
}
