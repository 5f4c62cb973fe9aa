import { HobError } from "@hob/protocol";

/** The client has left before it had its answer: nobody hears of this error, and nothing is wrong. */
export class ClientGone extends HobError {
  constructor(cause?: unknown) {
    super("connection_lost", "answer request: the client has gone", { cause });
  }
}

/** How deep causes are looked at: nobody makes longer chains, and one that leads back to itself ends. */
const CAUSES_MAX = 10;

/** Whether the client's leaving is what an error comes from. */
export function isOfClientGone(error: unknown): boolean {
  let cause = error;
  for (let depth = 0; depth < CAUSES_MAX && cause instanceof Error; depth++) {
    if (cause instanceof ClientGone) return true;
    cause = cause.cause;
  }
  return false;
}
