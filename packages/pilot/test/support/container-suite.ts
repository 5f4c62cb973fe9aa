import assert from "node:assert/strict";
import { after, before } from "node:test";
import type { HelperClient } from "../../src/helper/index.ts";
import { startContainer, type TestContainer } from "./container.ts";
import { type RunningHelper, startHelper } from "./helper.ts";

export interface ContainerSuite<Server> {
  readonly helper: RunningHelper;
  readonly container: TestContainer;
  readonly server: Server;
}

/**
 * For all tests of a `describe`: a helper, a container, and a server over both, from before the first test until after
 * the last. What a sanitizer has reported by then is a failure.
 */
export function useContainer<Server extends AsyncDisposable>(
  serve: (helper: HelperClient, container: TestContainer) => Promise<Server>,
): ContainerSuite<Server> {
  let helper: RunningHelper | undefined;
  let container: TestContainer | undefined;
  let server: Server | undefined;
  before(async () => {
    helper = await startHelper();
    container = await startContainer();
    server = await serve(helper.client, container);
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await container?.[Symbol.asyncDispose]();
    const reports = helper?.stderr();
    await helper?.[Symbol.asyncDispose]();
    assert.equal(reports, "", "no sanitizer report");
  });
  return {
    get helper() {
      return helper ?? assert.fail("the helper did not start");
    },
    get container() {
      return container ?? assert.fail("the container did not start");
    },
    get server() {
      return server ?? assert.fail("the server did not start");
    },
  };
}
