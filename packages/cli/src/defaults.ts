/** Where `hob serve` listens unless it is told otherwise: this machine only. */
export const DEFAULT_LISTEN = { host: "127.0.0.1", port: 7700 } as const;
