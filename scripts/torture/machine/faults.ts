import type { FaultyProxy, ProxyFault } from "../../../packages/storage/test/support/faulty-proxy.ts";
import { Random } from "../../../packages/storage/test/support/random.ts";
import type { FaultKind, FaultWindow } from "./plan.ts";

/** Clients of the store wait a minute for an answer. */
const GIVEN_UP_MS = 65_000;

/** Misbehaviour of the store as its clients see it: one window of it at a time. */
export class StoreFaults implements Disposable {
  readonly injected: Partial<Record<FaultKind, number>> = {};
  readonly #proxy: FaultyProxy;
  #timers: NodeJS.Timeout[] = [];
  #lastingUntil = 0;
  #window: FaultWindow | undefined;
  #random = new Random(0);

  constructor(proxy: FaultyProxy) {
    this.#proxy = proxy;
    proxy.decide = () => this.#decide();
  }

  /** Opens a window when its time has come, and closes it; one that is open is closed. */
  plan(window: FaultWindow, seed: number): void {
    this.close();
    this.#random = new Random(seed);
    const open = () => {
      this.#window = window;
    };
    this.#timers = [setTimeout(open, window.afterMs), setTimeout(() => this.close(), window.afterMs + window.forMs)];
  }

  /** whether a request may fail or be late: one is open or about to be, or what hangs has not been given up yet */
  get isDisturbing(): boolean {
    return this.#timers.length > 0 || Date.now() < this.#lastingUntil;
  }

  close(): void {
    for (const timer of this.#timers.splice(0)) clearTimeout(timer);
    if (this.#window?.isLasting) this.#lastingUntil = Date.now() + GIVEN_UP_MS;
    else this.#proxy.endHanging();
    this.#window = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
    this.#proxy.endHanging();
  }

  #decide(): ProxyFault {
    const window = this.#window;
    if (window === undefined || !this.#random.chance(window.share)) return "none";
    this.injected[window.kind] = (this.injected[window.kind] ?? 0) + 1;
    if (window.kind === "delay") return { delayMs: 200 + this.#random.below(4_000) };
    if (window.kind === "slow") return { bytesPerSecond: 20_000 + this.#random.below(500_000) };
    return window.kind;
  }
}
