import { Agent, type AgentOptions, type ClientRequestArgs } from "node:http";
import type { Duplex } from "node:stream";
import type { PilotLocator } from "../front-door/pilot-locator.ts";
import type { SpriteRecord } from "../registry/registry.ts";
import { openTunnel } from "./tunnel.ts";

/** A kept connection goes to what answered when it was made; after this time another one asks anew. */
const CONNECTION_AGE_MS_MAX = 15_000;

export interface TunnelRequest extends ClientRequestArgs {
  record: SpriteRecord;
}

type OnConnection = (error: Error | null, socket: Duplex) => void;

/** Connections of node:http through tunnels into sprites. */
export class TunnelAgent extends Agent {
  readonly #locate: PilotLocator;
  readonly #madeAt = new WeakMap<Duplex, number>();

  constructor(locate: PilotLocator, options: AgentOptions) {
    super(options);
    this.#locate = locate;
  }

  override getName(options?: ClientRequestArgs): string {
    return (options as TunnelRequest).record.id;
  }

  override createConnection(options: ClientRequestArgs, callback?: OnConnection): Duplex | null | undefined {
    void openTunnel(this.#locate, (options as TunnelRequest).record).then(
      (socket) => {
        this.#madeAt.set(socket, performance.now());
        callback?.(null, socket);
      },
      // Typed as if there were a socket also when there is none.
      (error: Error) => callback?.(error, undefined as unknown as Duplex),
    );
    return undefined;
  }

  // Typed as void; a falsy result closes the connection.
  override keepSocketAlive(socket: Duplex): unknown {
    if (performance.now() - (this.#madeAt.get(socket) ?? 0) > CONNECTION_AGE_MS_MAX) return false;
    return super.keepSocketAlive(socket);
  }
}
