import { setTimeout as sleep } from "node:timers/promises";
import type { HelperClient, Listener, ListenerWatch } from "../helper/index.ts";
import { type OpenPort, openPorts } from "./open-ports.ts";

/** How often the helper looks while somebody watches. */
const INTERVAL_MS = 200;
/** Pause before a watch that has ended is begun again: the container is being restarted. */
const RETRY_MS = 250;

/** What the watchers need to know of the inner container. */
export interface PortContainer {
  state(): "running" | "stopped";
  /** only called while the state is `running` */
  target(): { readonly initPid: number };
}

export interface PortListener {
  /** once, before anything else: what is open now */
  list(ports: readonly OpenPort[]): void;
  opened(port: OpenPort): void;
  closed(port: OpenPort): void;
}

export interface PortFeedParts {
  readonly helper: Pick<HelperClient, "watchListeners">;
  readonly container: PortContainer;
}

/** Which ports are open inside, for any number of watchers: one watch of the helper while there is one, none without. */
export class PortFeed {
  readonly #parts: PortFeedParts;
  readonly #listeners = new Set<PortListener>();
  /** by number; undefined as long as nothing is known */
  #ports: ReadonlyMap<number, OpenPort> | undefined;
  #running: { watch?: ListenerWatch; readonly stop: AbortController } | undefined;

  constructor(parts: PortFeedParts) {
    this.#parts = parts;
  }

  /** @returns ends the subscription */
  subscribe(listener: PortListener): () => void {
    this.#listeners.add(listener);
    if (this.#ports !== undefined) listener.list([...this.#ports.values()]);
    if (this.#running === undefined) this.#start();
    return () => {
      if (this.#listeners.delete(listener) && this.#listeners.size === 0) this.#stop();
    };
  }

  #start(): void {
    const stop = new AbortController();
    this.#running = { stop };
    void this.#run(stop.signal);
  }

  #stop(): void {
    this.#running?.stop.abort();
    this.#running?.watch?.[Symbol.dispose]();
    this.#running = undefined;
    this.#ports = undefined;
  }

  async #run(stop: AbortSignal): Promise<void> {
    while (!stop.aborted) {
      // A helper or a container that is just being restarted: the next try finds it.
      await this.#watchOnce(stop).catch(() => {});
      if (stop.aborted) return;
      this.#update([]);
      await sleep(RETRY_MS, undefined, { signal: stop }).catch(() => {});
    }
  }

  async #watchOnce(stop: AbortSignal): Promise<void> {
    const { helper, container } = this.#parts;
    if (container.state() !== "running") return;
    using watch = await helper.watchListeners(container.target().initPid, INTERVAL_MS, (list) => {
      if (!stop.aborted) this.#update(list);
    });
    if (stop.aborted || this.#running === undefined) return;
    this.#running.watch = watch;
    await watch.ended;
  }

  #update(listeners: readonly Listener[]): void {
    const before = this.#ports;
    const now = openPorts(listeners);
    this.#ports = now;
    for (const listener of [...this.#listeners]) {
      if (before === undefined) listener.list([...now.values()]);
      else tellChanges(listener, before, now);
    }
  }
}

/** A port whose sockets are all others than before was closed and opened again, by a server that was restarted. */
function tellChanges(listener: PortListener, before: ReadonlyMap<number, OpenPort>, now: ReadonlyMap<number, OpenPort>): void {
  const isSame = (port: OpenPort) => {
    const other = (before.get(port.port) === port ? now : before).get(port.port);
    return other?.inodes.some((inode) => port.inodes.includes(inode)) === true;
  };
  for (const port of before.values()) if (!isSame(port)) listener.closed(port);
  for (const port of now.values()) if (!isSame(port)) listener.opened(port);
}
