import assert from "node:assert/strict";
import { test } from "node:test";
import { createRelayServer, type RelayServerParts } from "../src/object-store/relay-server.ts";

test("the relay has no time after which it ends a connection that rests", () => {
  const { headersTimeout, keepAliveTimeout, requestTimeout, timeout } = createRelayServer({} as RelayServerParts);
  assert.deepEqual([headersTimeout, keepAliveTimeout, requestTimeout, timeout], [0, 0, 0, 0]);
});
