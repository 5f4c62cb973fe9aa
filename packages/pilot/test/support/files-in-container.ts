import assert from "node:assert/strict";
import { after, before } from "node:test";
import { FileOperations } from "../../src/files/index.ts";
import { startContainer, type TestContainer } from "./container.ts";
import { collect, type RunningHelper, startHelper } from "./helper.ts";

/** What the tests of one suite have: a helper and a container, and the file operations of a sprite that consists of them. */
export class FilesInContainer {
  #helper: RunningHelper | undefined;
  #container: TestContainer | undefined;
  #operations: FileOperations | undefined;

  /** To be made in a suite: it begins before its tests and ends after them. */
  constructor() {
    before(async () => {
      this.#helper = await startHelper();
      this.#container = await startContainer();
      this.#operations = new FileOperations(this.helper.client, { state: () => "running", target: () => this.container.target });
    });
    after(async () => {
      await this.container[Symbol.asyncDispose]();
      const reports = this.helper.stderr();
      await this.helper[Symbol.asyncDispose]();
      assert.equal(reports, "", "no sanitizer report");
    });
  }

  get helper(): RunningHelper {
    return this.#helper ?? assert.fail("there is no helper before the suite begins");
  }

  get container(): TestContainer {
    return this.#container ?? assert.fail("there is no container before the suite begins");
  }

  get operations(): FileOperations {
    return this.#operations ?? assert.fail("there are no operations before the suite begins");
  }

  /** Runs a script of bash inside, as root. @returns what it prints */
  run = async (script: string): Promise<string> => {
    const env = { PATH: "/usr/bin:/bin" };
    const spec = { argv: ["bash", "-c", script], env, cwd: "/", uid: 0, gid: 0, target: this.container.target };
    const { code, stdout, stderr } = await collect(this.helper.client, spec);
    assert.equal(code, 0, stderr);
    return stdout.trim();
  };
}
