/** State of the inner container, in the words of the OCI runtime specification ("stopped" also before its first start). */
export type ContainerStatus = "stopped" | "creating" | "running" | "stopping";

const MOVES = {
  stopped: ["creating"],
  creating: ["running", "stopping", "stopped"],
  running: ["stopping"],
  stopping: ["stopped"],
} as const satisfies Record<ContainerStatus, readonly ContainerStatus[]>;

export const canMove = (from: ContainerStatus, to: ContainerStatus): boolean => (MOVES[from] as readonly ContainerStatus[]).includes(to);
