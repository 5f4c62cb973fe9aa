import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { outputOf } from "./support/exec.ts";
import { useDaemon } from "./support/suite.ts";

const LIMIT = { timeout: 60_000 };
/** How far a sprite's clock may be from the host's. */
const CLOCK_TOLERANCE_MS = 2_000;

const suite = useDaemon({ sprites: ["first", "second"] });
const both = (script: string): Promise<string[]> => Promise.all(["first", "second"].map((name) => outputOf(suite.sprite(name), script)));

describe("two sprites of one template differ in", () => {
  const sources = {
    "the kernel's random numbers": "head -c 32 /dev/urandom | base64",
    "getrandom(2)": "python3 -c 'import os; print(os.getrandom(32).hex())'",
    "UUIDs of a fresh Node": "node -p 'crypto.randomUUID()'",
    "random numbers of a fresh Node": "node -p 'Math.random()'",
    "UUIDs of a fresh Python": "python3 -c 'import uuid; print(uuid.uuid4())'",
    "UUIDs of the kernel": "cat /proc/sys/kernel/random/uuid",
    "the boot id": "cat /proc/sys/kernel/random/boot_id",
    "the machine id": "cat /etc/machine-id",
    "temporary names": "mktemp -u",
    "keys of ssh-keygen": "rm -f /tmp/key; ssh-keygen -q -t ed25519 -N '' -f /tmp/key && cut -d' ' -f2 /tmp/key.pub",
  };
  for (const [what, script] of Object.entries(sources)) {
    test(what, LIMIT, async () => {
      const [first, second] = await both(script);
      assert.ok(first !== undefined && first.length >= 8, `something: ${first}`);
      assert.notEqual(first, second);
    });
  }

  test("and one sprite does not repeat itself", LIMIT, async () => {
    const script = "cat /proc/sys/kernel/random/uuid; node -p 'crypto.randomUUID()'";
    const lines = `${await outputOf(suite.sprite("first"), script)}\n${await outputOf(suite.sprite("first"), script)}`.split("\n");
    assert.equal(new Set(lines).size, 4);
  });
});

test("the machine id is one, and stays", LIMIT, async () => {
  const [first] = await both("cat /etc/machine-id");
  assert.match(first ?? "", /^[0-9a-f]{32}$/);
  assert.equal(await outputOf(suite.sprite("first"), "cat /etc/machine-id"), first);
});

test("the clock is right", LIMIT, async () => {
  for (const name of ["first", "second"]) {
    const before = Date.now();
    const inside = Number(await outputOf(suite.sprite(name), "date +%s%3N"));
    const after = Date.now();
    const tolerance = `${name}: ${inside} is not between ${before} and ${after}`;
    assert.ok(inside > before - CLOCK_TOLERANCE_MS && inside < after + CLOCK_TOLERANCE_MS, tolerance);
  }
});

test("the clock runs as fast as the host's", LIMIT, async () => {
  // Busy processors make timer ticks get lost: a clock that counts them falls behind.
  const read = async () => ({ inside: Number(await outputOf(suite.sprite("second"), "date +%s%3N")), outside: Date.now() });
  await read();
  const begin = await read();
  await outputOf(suite.sprite("second"), "for i in 1 2 3; do timeout 6 sh -c 'while :; do :; done' & done; wait; true");
  const end = await read();
  const drift = end.inside - begin.inside - (end.outside - begin.outside);
  assert.ok(Math.abs(drift) < 500, `${drift} ms in ${end.outside - begin.outside} ms`);
  const source = await outputOf(suite.sprite("second"), "cat /sys/devices/system/clocksource/clocksource0/current_clocksource");
  // Under KVM the kernel prefers the clock that the hypervisor keeps.
  assert.ok(["tsc", "kvm-clock"].includes(source), source);
});

test("no file of the first is seen in the second", LIMIT, async () => {
  await outputOf(
    suite.sprite("first"),
    "echo mine | tee ~/note /tmp/note /var/tmp/note | sudo tee /srv/note /etc/note /var/lib/docker/note >/dev/null",
  );
  const script = "for f in ~/note /tmp/note /var/tmp/note /srv/note /etc/note /var/lib/docker/note; do sudo cat $f 2>/dev/null; done; true";
  assert.deepEqual(await both(script), [Array(6).fill("mine").join("\n"), ""]);
});

test("the environment of the create request reaches every command; the request's own wins", LIMIT, async (t) => {
  await suite.daemon.sdk().deleteSprite("first");
  t.after(() => suite.daemon.sdk().deleteSprite("third"));
  const response = await suite.daemon.create({ name: "third", environment: { GREETING: "hello world", LANG: "C" } });
  assert.equal(response.status, 201);
  const third = suite.sprite("third");
  assert.equal(await outputOf(third, "echo $GREETING $LANG"), "hello world C");
  const { stdout } = await third.execFile("sh", ["-c", "echo $GREETING"], { env: { GREETING: "mine" } });
  assert.equal(stdout, "mine\n");
});
