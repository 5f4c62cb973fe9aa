import assert from "node:assert/strict";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { Command, CommandRunner } from "@hob/linux";
import { HobError } from "@hob/protocol";
import { type AcceleratorProbe, chooseAccelerator, probeArguments } from "../../src/machine/accelerator.ts";

let folder: string;
let device: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "hob-accelerator-"));
  device = join(folder, "kvm");
  await writeFile(device, "");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A runner that answers each run in the same way, and counts. */
class Prober implements CommandRunner {
  readonly runs: Command[] = [];
  readonly #answer: () => string;

  constructor(answer: () => string) {
    this.#answer = answer;
  }

  async run(command: Command) {
    this.runs.push(command);
    return { stdout: this.#answer(), stderr: "" };
  }
}

const good = () => new Prober(() => "some kernel message\r\nhob-probe-ok\r\n");
const failing = (code: "timeout" | "command_failed" | "missing_tool", message: string) =>
  new Prober(() => {
    throw new HobError(code, message);
  });

const probe = (runner: CommandRunner, changes: Partial<AcceleratorProbe> = {}): AcceleratorProbe => ({
  runner,
  kernel: "/images/vmlinux",
  initramfs: "/images/initramfs.img",
  cacheFile: join(folder, "accelerator.json"),
  device,
  ...changes,
});

describe("the accelerator", () => {
  test("is KVM when a guest reached user space under it", async () => {
    const runner = good();
    assert.deepEqual(await chooseAccelerator(probe(runner)), { accelerator: "kvm", reason: "a probe guest reached user space" });
    const [command] = runner.runs;
    assert.deepEqual(command?.argv, probeArguments("/images/vmlinux", "/images/initramfs.img"));
    assert((command?.timeoutMs ?? Number.POSITIVE_INFINITY) <= 10_000, "a guest that hangs is given up within seconds");
  });

  test("is TCG without a device, and nothing is started to find out", async () => {
    const runner = good();
    const verdict = await chooseAccelerator(probe(runner, { device: join(folder, "none") }));
    assert.equal(verdict.accelerator, "tcg");
    assert.match(verdict.reason, /none does not exist/);
    assert.equal(runner.runs.length, 0);
  });

  test("is TCG when QEMU is refused, hangs, or ends without a word from the guest; the reason is one line", async () => {
    const cases: [runner: Prober, says: RegExp][] = [
      [failing("command_failed", "run qemu: exit status 1: Could not access KVM\nsecond line"), /Could not access KVM$/],
      [failing("timeout", "run qemu: no end after 5000 ms"), /no end after 5000 ms$/],
      [new Prober(() => "kernel panic"), /ended before it reached user space$/],
    ];
    for (const [runner, says] of cases) {
      await rm(join(folder, "accelerator.json"), { force: true });
      const verdict = await chooseAccelerator(probe(runner));
      assert.equal(verdict.accelerator, "tcg");
      assert.match(verdict.reason, says);
      assert(!verdict.reason.includes("\n"));
    }
  });
});

describe("the verdict", () => {
  test("is kept: a second look starts nothing, whichever it was", async () => {
    for (const runner of [good(), failing("timeout", "run qemu: no end after 5000 ms")]) {
      await rm(join(folder, "accelerator.json"), { force: true });
      const first = await chooseAccelerator(probe(runner));
      assert.deepEqual(await chooseAccelerator(probe(runner)), first);
      assert.equal(runner.runs.length, 1);
    }
  });

  test("does not outlive a change of the device, of the kernel, or of its own file", async () => {
    await chooseAccelerator(probe(failing("command_failed", "refused")));
    await chmod(device, 0o604);
    assert.equal((await chooseAccelerator(probe(good()))).accelerator, "kvm", "another mode of the device");
    assert.equal(
      (await chooseAccelerator(probe(failing("timeout", "hangs"), { kernel: "/images/other" }))).accelerator,
      "tcg",
      "another kernel",
    );
    for (const text of ["", "{", "null", '{"key":"x"}', '{"key":1,"verdict":{"accelerator":"kvm"}}']) {
      await writeFile(join(folder, "accelerator.json"), text);
      const runner = good();
      assert.equal((await chooseAccelerator(probe(runner))).accelerator, "kvm");
      assert.equal(runner.runs.length, 1, `a file that holds ${text}`);
    }
  });

  test("of an earlier boot of the host is not believed", async () => {
    await chooseAccelerator(probe(good()));
    const file = join(folder, "accelerator.json");
    const bootId = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
    const text = await readFile(file, "utf8");
    assert(text.includes(bootId));
    await writeFile(file, text.replace(bootId, "00000000-0000-0000-0000-000000000000"));
    const runner = failing("timeout", "hangs");
    assert.equal((await chooseAccelerator(probe(runner))).accelerator, "tcg");
    assert.equal(runner.runs.length, 1);
  });

  test("is given also where it cannot be kept", async () => {
    const verdict = await chooseAccelerator(probe(good(), { cacheFile: join(folder, "none", "accelerator.json") }));
    assert.equal(verdict.accelerator, "kvm");
  });
});
