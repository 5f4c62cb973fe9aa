import { setTimeout as sleep } from "node:timers/promises";

/** "the last IOP has failed and the device is configured to pause on I/O errors", qapi/run-state.json */
export const STOPPED_BY_DISK = "io-error";

/** A VM that is stopped because the host's disk is full tries again this often. */
const RETRY_MS = 2_000;
/** What cannot be written is tried at once when the VM goes on; by then it has stopped again, or has come through. */
const SETTLE_MS = 200;

export interface FullDiskParts {
  /** of QEMU's query-status */
  status: () => Promise<string>;
  resume: () => Promise<void>;
  retryMs?: number;
  settleMs?: number;
}

/**
 * QEMU stops a VM whose disk the host cannot extend (werror=enospc), so that the guest sees no error and loses nothing. Here it
 * goes on by itself once there is space; until then it is known to stand still.
 */
export class FullDisk {
  readonly #parts: FullDiskParts;
  #isWatching = false;
  #isStalled = false;
  /** how many ask that nobody lets the VM go on */
  #holds = 0;
  #resuming: Promise<void> = Promise.resolve();

  constructor(parts: FullDiskParts) {
    this.#parts = parts;
  }

  get isStalled(): boolean {
    return this.#isStalled;
  }

  /** A request of the VM's disk has failed, qapi/block-core.json, BLOCK_IO_ERROR. */
  noteError(): void {
    if (this.#isWatching) return;
    this.#isWatching = true;
    void this.#watch().finally(() => {
      this.#isWatching = this.#isStalled = false;
    });
  }

  /** Before anybody was told of the error, it was found to have stopped. */
  noteStalled(): void {
    this.noteError();
    this.#isStalled = true;
  }

  /**
   * Does something with a VM that has to stand still. QEMU leaves a VM that has stopped by itself in the state that it has, whoever
   * stops it once more (do_vm_stop in system/cpus.c): it looks like one that waits for space only.
   */
  async standingStill<T>(work: () => Promise<T>): Promise<T> {
    this.#holds++;
    try {
      await this.#resuming;
      return await work();
    } finally {
      this.#holds--;
    }
  }

  async #watch(): Promise<void> {
    const { status, resume, retryMs = RETRY_MS, settleMs = SETTLE_MS } = this.#parts;
    const hasStopped = async () => (await status().catch(() => "gone")) === STOPPED_BY_DISK;
    for (;;) {
      await sleep(settleMs, undefined, { ref: false });
      if (!(await hasStopped())) return;
      this.#isStalled = true;
      await sleep(retryMs, undefined, { ref: false });
      // Somebody may have stopped it for another reason meanwhile.
      if (!(await hasStopped()) || this.#holds > 0) continue;
      this.#resuming = resume().catch(() => {});
      await this.#resuming;
    }
  }
}
