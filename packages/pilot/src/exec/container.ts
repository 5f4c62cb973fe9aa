import type { ExecTarget } from "../helper/index.ts";

/** What exec needs to know of the inner container. */
export interface ExecContainer {
  state(): "running" | "stopped";
  /** only called while the state is `running` */
  target(): ExecTarget;
  /**
   * Calls back whenever the container has stopped or is about to be: its processes are dead or will be at once.
   * @returns a function that removes the callback
   */
  onStopped(callback: () => void): () => void;
}
