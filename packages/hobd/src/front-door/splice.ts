import { type Duplex, pipeline } from "node:stream";

/** Milliseconds the second direction has to end after the first. */
const LINGER_MS = 10_000;

/**
 * Joins two connections: what comes from one goes to the other, each direction read only as fast as the other side
 * takes it. When one side breaks, the other is destroyed. When one side ends, the other is told and both are gone
 * after a bounded time: a half-open connection means nothing to a WebSocket.
 */
export function splice(a: Duplex, b: Duplex, lingerMs = LINGER_MS): Promise<void> {
  return new Promise((resolve) => {
    let open = 2;
    let timer: NodeJS.Timeout | undefined;
    const destroyBoth = () => {
      a.destroy();
      b.destroy();
    };
    const onDirectionEnd = (error?: Error | null) => {
      if (error) destroyBoth();
      open--;
      if (open === 1) timer = setTimeout(destroyBoth, lingerMs);
      if (open > 0) return;
      clearTimeout(timer);
      destroyBoth();
      resolve();
    };
    pipeline(a, b, onDirectionEnd);
    pipeline(b, a, onDirectionEnd);
  });
}
