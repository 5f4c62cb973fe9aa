import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { outputOf, rootShell, run, shell } from "./support/exec.ts";
import { useDaemon } from "./support/suite.ts";

const LIMIT = { timeout: 120_000 };

/** Says who it is; ends with 7 when it is given a word. Static: it runs where nothing else is. */
const PROGRAM = `#include <stdio.h>
#include <unistd.h>
int main(int c, char **v) {
  printf("pid %d uid %d\\n", getpid(), getuid());
  return c > 1 ? 7 : 0;
}`;
const CONTAINERFILE = 'FROM scratch\nCOPY hello /hello\nENTRYPOINT ["/hello"]\n';

const suite = useDaemon({
  sprites: ["box"],
  prepare: async (daemon) => {
    const sprite = daemon.sdk().sprite("box");
    const script = `mkdir /tmp/context && cd /tmp/context && printf %s "$PROGRAM" > hello.c && printf %s "$CONTAINERFILE" > Containerfile
      gcc -static -o hello hello.c && ./hello`;
    assert.equal((await shell(sprite, script, { env: { PROGRAM, CONTAINERFILE } })).code, 0);
  },
});
const box = () => suite.sprite("box");

test("an ordinary user makes namespaces with a /proc of their own", LIMIT, async () => {
  assert.deepEqual((await outputOf(box(), "unshare -Urmpf --mount-proc sh -c 'id -u; ps -e -o comm='")).split("\n"), ["0", "sh", "ps"]);
  assert.equal(await outputOf(box(), "unshare -Urmn sh -c 'mount -t tmpfs none /mnt && ip link set lo up && echo ok'"), "ok");
});

test("an ordinary user mounts an overlay in namespaces of their own", LIMIT, async () => {
  const script =
    "d=$(mktemp -d) && mkdir $d/l $d/u $d/w $d/m && echo low > $d/l/f && mount -t overlay none -o lowerdir=$d/l,upperdir=$d/u,workdir=$d/w $d/m && cat $d/m/f && echo up > $d/m/f && cat $d/l/f $d/u/f";
  assert.equal(await outputOf(box(), `unshare -Urm sh -c '${script}'`), "low\nlow\nup");
});

describe("podman without root", () => {
  test("builds an image from the sprite's own files", LIMIT, async () => {
    await outputOf(box(), "podman build --quiet --tag hello /tmp/context");
    assert.equal(await outputOf(box(), "podman images --format '{{.Repository}}'"), "localhost/hello");
  });

  test("runs it without a network and with the default one, and passes on how it ended", LIMIT, async () => {
    assert.equal(await outputOf(box(), "podman run --rm --network=none hello"), "pid 1 uid 0");
    assert.equal(await outputOf(box(), "podman run --rm hello"), "pid 1 uid 0");
    assert.equal((await run(box(), "podman", ["run", "--rm", "--network=none", "hello", "fail"])).code, 7);
  });

  test("keeps its layers on the volume, not on the overlay", LIMIT, async () => {
    assert.equal(await outputOf(box(), "findmnt --noheadings --raw --output FSTYPE --target ~/.local/share/containers/storage"), "ext4");
    assert.notEqual(await outputOf(box(), "ls ~/.local/share/containers/storage/overlay"), "");
  });
});

test("podman as root runs it too", LIMIT, async () => {
  const { code, stdout, stderr } = await rootShell(
    box(),
    "podman build --quiet --tag hello /tmp/context >/dev/null && podman run --rm hello",
  );
  assert.equal(code, 0, stderr);
  assert.equal(stdout, "pid 1 uid 0\n");
});
