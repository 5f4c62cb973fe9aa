import assert from "node:assert/strict";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { outputOf } from "./support/exec.ts";
import { type Ended, startHob } from "./support/hob.ts";
import { useDaemon } from "./support/suite.ts";
import { VmDebugger } from "./support/vm-debugger.ts";
import { until } from "./support/wait.ts";

const LIMIT = { timeout: 240_000 };
/** Node.js starts without a compiler under emulation, and then the container. */
const BACK_TIMEOUT_MS = 90_000;

const suite = useDaemon({ sprites: ["one"] });
const one = () => suite.sprite("one");
const inside = (script: string) => outputOf(one(), script);
const isBack = () => until("the sprite answers by itself", async () => (await inside("echo alive")) === "alive", BACK_TIMEOUT_MS);
const bootId = () => inside("cat /proc/sys/kernel/random/boot_id");
const checkpoints = async () => (await one().listCheckpoints()).map(({ id }) => id).filter((id) => /^v\d+$/.test(id));

/** Ends the pilot while it works on something; what is asked from then on waits for its successor. */
async function crash(vm: VmDebugger, work: () => Promise<unknown>, meanwhile: () => Promise<unknown> = isBack): Promise<void> {
  let ended = false;
  const working = (async () => {
    while (!ended) await work().catch(() => {});
  })();
  try {
    await vm.crashPilot();
  } finally {
    ended = true;
  }
  await meanwhile();
  await working;
  await isBack();
}

/** Each kind of request that finds no pilot is answered by the next one, and done once. */
async function askWithoutPilot(): Promise<void> {
  const body = "x".repeat(200_000);
  const [listed, written, ran] = await Promise.all([
    suite.daemon.fetch("/v1/sprites/one/services"),
    suite.daemon.fetch("/v1/sprites/one/fs/write?path=/home/sprite/meanwhile", { method: "PUT", body }),
    inside("echo once >> ran; echo ran"),
  ]);
  assert.deepEqual([listed.status, written.status, ran], [200, 200, "ran"], await written.text());
  assert.equal(await inside("cat ran; wc -c < meanwhile"), `once\n${body.length}`);
}

const ask = () =>
  suite.daemon.fetch("/v1/sprites/one/services", { signal: AbortSignal.timeout(10_000) }).then((response) => response.text());

/** `hob exec` in the foreground, once its command runs; its end is awaited apart. */
async function beginExec(): Promise<{ ended: Promise<Ended> } & Disposable> {
  const child = startHob(["exec", "one", "--", "sh", "-c", "echo begun; sleep 1000"], suite.daemon.env);
  const output: Record<"stdout" | "stderr", string> = { stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].on("data", (chunk: Buffer) => {
      output[stream] += chunk;
    });
  }
  const ended = once(child, "close").then(([code, signal]) => ({ code, signal, ...output }) as Ended);
  await until("the command runs", () => output.stdout === "begun\n");
  return { ended, [Symbol.dispose]: () => void child.kill("SIGKILL") };
}

describe("a pilot that ends in the middle of its work", () => {
  let vm: VmDebugger;

  test("is started again: commands end and say so, files are there, services run, checkpoints restore", LIMIT, async () => {
    const { daemon } = suite;
    assert.equal((await daemon.hob("services", "create", "one", "idle", "--", "sleep", "100000")).code, 0);
    await inside("echo first > kept");
    await (await one().createCheckpoint("first")).processAll(() => {});
    await inside("echo second > kept");
    vm = await VmDebugger.open(daemon);
    const boot = await bootId();
    using foreground = await beginExec();
    const detached = (await daemon.hob("exec", "--detach", "one", "--", "sh", "-c", "echo begun; sleep 1000")).stdout.trim();
    // Sessions that are younger, by the clock of the VM, need not be in the journal yet.
    await inside("sleep 3");

    await crash(vm, ask, askWithoutPilot);
    assert.equal(await bootId(), boot, "the VM went on");
    assert.equal(await inside("cat kept"), "second", "what was written and not even flushed");
    const { code, stdout, stderr } = await foreground.ended;
    assert.deepEqual([code, stdout], [255, "begun\n"], stderr);
    assert.match(stderr, /the sprite's platform was restarted/);
    const attached = await daemon.hob("attach", "one", detached);
    assert.deepEqual([attached.code, attached.stdout], [255, "begun\n"], attached.stderr);
    await until("the service runs", async () => (await inside("pgrep -fc 'sleep 10000[0]'")) === "1", 30_000);
    const listed = JSON.parse((await daemon.hob("services", "list", "one", "--json")).stdout) as { state: { status: string } }[];
    assert.deepEqual(
      listed.map(({ state }) => state.status),
      ["running"],
    );
    const synced = await daemon.hob("sync", "one");
    assert.equal(synced.code, 0, synced.stderr);
    assert.deepEqual(await checkpoints(), ["v1"]);
    await (await one().restoreCheckpoint("v1")).processAll(() => {});
    assert.equal(await inside("cat kept"), "first");
  });

  test("while a checkpoint is taken: it is there whole or not at all", LIMIT, async () => {
    const before = await checkpoints();
    await crash(vm, async () => (await one().createCheckpoint("cut off")).processAll(() => {}));
    const made = (await checkpoints()).filter((id) => !before.includes(id));
    const [newest] = made;
    if (newest !== undefined) await (await one().restoreCheckpoint(newest)).processAll(() => {});
    assert.equal(await inside("cat kept"), "first");
    await inside("echo third > kept");
    await (await one().createCheckpoint("after")).processAll(() => {});
    assert.equal((await checkpoints()).length, before.length + made.length + 1);
  });

  test("with a disk that is in the object store alone: it is read on", LIMIT, async () => {
    const { daemon } = suite;
    const sum = await inside("head -c 4000000 /dev/urandom > blob; sync; sha256sum < blob");
    assert.equal((await daemon.hob("sync", "one")).code, 0);
    await daemon.stop();
    rmSync(join(daemon.home, "sprites"), { recursive: true });
    await daemon.restart();
    await until("the sprite is fetched", async () => (await inside("cat kept")) === "third", BACK_TIMEOUT_MS);
    const again = await VmDebugger.open(daemon);
    await crash(again, ask);
    assert.equal(await inside("sha256sum < blob"), sum);
    assert.equal((await daemon.hob("sync", "one")).code, 0);
  });
});
