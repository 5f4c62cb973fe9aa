import assert from "node:assert/strict";
import { test } from "node:test";
import type { Command, CommandRunner } from "@hob/linux";
import { HobError } from "@hob/protocol";
import { chooseDebianMirror, findAptProxyOptions, findDebianMirror } from "../src/mirror.ts";

const answering = (stdout: string): CommandRunner => ({ run: async () => ({ stdout, stderr: "" }) });
const withoutApt: CommandRunner = { run: async () => Promise.reject(new HobError("missing_tool", "run apt-get: not found")) };

test("the mirror is that of Debian's main archive, not of its security archive", () => {
  const lines = [
    "http://security.example/debian-security Debian Debian-Security",
    "http://mirror.example/debian Debian Debian",
    "http://other.example/debian Debian Debian",
  ];
  assert.equal(chooseDebianMirror(lines), "http://mirror.example/debian");
});

test("archives of others, and lines that are none, give no mirror", () => {
  assert.equal(
    chooseDebianMirror(["http://archive.example/ubuntu Ubuntu Ubuntu", "http://x.example Debian Backports", "", "nonsense"]),
    "",
  );
  assert.equal(chooseDebianMirror([]), "");
});

test("apt is asked for its index targets, in bounded time; without apt there is no mirror and no error", async () => {
  const seen: Command[] = [];
  const runner: CommandRunner = {
    run: async (command) => {
      seen.push(command);
      return { stdout: "http://mirror.example/debian Debian Debian\n", stderr: "" };
    },
  };
  assert.equal(await findDebianMirror(runner), "http://mirror.example/debian");
  assert.deepEqual(seen[0]?.argv.slice(0, 2), ["apt-get", "indextargets"]);
  assert((seen[0]?.timeoutMs ?? Number.POSITIVE_INFINITY) <= 60_000);
  assert.equal(await findDebianMirror(withoutApt), "");
});

test("apt's proxies, and nothing else of its configuration, are handed on", async () => {
  const dump = [
    'APT::Architecture "amd64";',
    'Acquire::http::Proxy "http://proxy.example:3142";',
    'Acquire::https::Proxy::internal.example "DIRECT";',
    'Acquire::http::ProxyAutoDetect "/usr/bin/detect";',
    'Acquire::Retries "3";',
  ].join("\n");
  assert.deepEqual(await findAptProxyOptions(answering(dump)), [
    'Acquire::http::Proxy "http://proxy.example:3142"',
    'Acquire::https::Proxy::internal.example "DIRECT"',
  ]);
  assert.deepEqual(await findAptProxyOptions(withoutApt), []);
});
