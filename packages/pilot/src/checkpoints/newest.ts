import type { CheckpointParts } from "./parts.ts";
import type { Turns } from "./turns.ts";

/** Milliseconds from the end of a fetch to the first mount of what it brought. */
const SHOWN_AFTER_MS = 5_000;

type NewestParts = Pick<CheckpointParts, "volume" | "view" | "shown" | "shownAfterMs" | "onError">;

/**
 * Keeps the newest checkpoints mounted inside. A mount may have to read from the object store, for as long as that takes: it has no
 * turn of its own, and none begins while something is done that somebody waits for.
 */
export class NewestShown {
  readonly #parts: NewestParts;
  readonly #turns: Turns;
  #failed: readonly string[] = [];
  #later: NodeJS.Timeout | undefined;
  /** of the last refresh that was asked for */
  #number = 0;

  constructor(parts: NewestParts, turns: Turns) {
    this.#parts = parts;
    this.#turns = turns;
  }

  /** Ids of those that could not be mounted. */
  get failed(): readonly string[] {
    return this.#failed;
  }

  /** When all that was asked for is done; nobody waits for it. Of several the last counts. */
  refresh(): void {
    const number = ++this.#number;
    this.#show(number).catch((error) => this.#parts.onError("show checkpoints", error));
  }

  /**
   * As `refresh`, for those that came with a volume from the object store: the sprite's first commands have the store to
   * themselves.
   */
  refreshLater(): void {
    clearTimeout(this.#later);
    this.#later = setTimeout(() => this.refresh(), this.#parts.shownAfterMs ?? SHOWN_AFTER_MS).unref();
  }

  /** Nothing begins any more that was asked for before. */
  stop(): void {
    clearTimeout(this.#later);
    this.#number++;
  }

  async #show(number: number): Promise<void> {
    const { volume, view, shown } = this.#parts;
    await this.#turns.idle();
    if (number !== this.#number) return;
    const newest = volume.ledger.state.checkpoints.filter(({ automatic }) => !automatic).slice(-shown);
    const failed = await view.show(newest, () => this.#turns.idle());
    if (number === this.#number) this.#failed = failed;
  }
}
