import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { Socket } from "node:net";
import { test } from "node:test";
import { PILOT_ROUTES, RELAY } from "@hob/protocol";
import { RelayConnections } from "../src/object-store/relay-connections.ts";

class Watched extends Socket {
  probes = 0;
  override setKeepAlive(): this {
    this.probes++;
    return this;
  }
  override write(): boolean {
    return true;
  }
}

const upgrade = (start: string): IncomingMessage =>
  ({ url: PILOT_ROUTES.relay, headers: { upgrade: RELAY.upgrade, [RELAY.startHeader]: start } }) as unknown as IncomingMessage;

test("a connection that the host has given up rests without probes that nobody answers, until its start is over", async () => {
  const connections = new RelayConnections();
  const [first, second] = [new Watched(), new Watched()];
  assert.ok(connections.upgrade(upgrade("1"), first) && connections.upgrade(upgrade("2"), second));
  connections.keepOnly("2");
  assert.deepEqual([first.destroyed, second.destroyed, first.probes + second.probes], [true, false, 0]);
  connections.destroy();
  second.destroy();
});
