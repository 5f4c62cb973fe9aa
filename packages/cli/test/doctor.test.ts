import assert from "node:assert/strict";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { SystemCommandRunner } from "@hob/linux";
import type { Finding, Machine } from "../src/doctor/check.ts";
import { examine } from "../src/doctor/examine.ts";
import { checkFolders } from "../src/doctor/folders.ts";
import { checkKvm } from "../src/doctor/kvm.ts";
import { checkMemory } from "../src/doctor/memory.ts";
import { checkPort } from "../src/doctor/port.ts";
import { checkPrograms } from "../src/doctor/programs.ts";
import { checkStore } from "../src/doctor/store.ts";
import { checkSubids } from "../src/doctor/subids.ts";
import { TestHome } from "./support/run-hob.ts";

let home: TestHome;

before(() => {
  home = new TestHome();
});
after(() => home[Symbol.dispose]());

function file(name: string, text: string, mode = 0o644): string {
  const path = join(home.path, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

const machine = (changes: Partial<Omit<Machine, "files">> & { files?: Partial<Machine["files"]> } = {}): Machine => ({
  home: join(home.path, "not", "yet"),
  cacheDir: join(home.path, "cache"),
  runner: new SystemCommandRunner(),
  path: [home.path],
  listen: { host: "127.0.0.1", port: 0 },
  daemonUrl: undefined,
  userId: 1000,
  userName: "ann",
  ...changes,
  files: { kvm: "/nonexistent", meminfo: "/proc/meminfo", subuid: "/nonexistent", subgid: "/nonexistent", ...changes.files },
});

const levels = (findings: readonly Finding[]): Record<string, string> =>
  Object.fromEntries(findings.map(({ check, level }) => [check, level]));

test("programs: missing ones name their package, an old or mute QEMU is found out", async () => {
  const missing = await checkPrograms(machine());
  assert.deepEqual(missing.find(({ check }) => check === "mkfs.erofs")?.advice, "apt-get install erofs-utils");
  assert.ok(missing.every(({ level }) => level === "fail"));
  assert.ok(missing.some(({ check }) => check === "newuidmap"));
  assert.ok(!(await checkPrograms(machine({ userId: 0 }))).some(({ check }) => check === "newuidmap"));
  for (const [script, level] of [
    ["echo QEMU emulator version 7.2.22", "ok"],
    ["echo QEMU emulator version 10.0.2", "ok"],
    ["echo QEMU emulator version 6.2.0", "fail"],
    ["echo hello", "fail"],
    ["exit 3", "fail"],
  ] as const) {
    file("qemu-system-x86_64", `#!/bin/sh\n${script}\n`, 0o755);
    assert.equal(levels(await checkPrograms(machine()))["qemu-system-x86_64"], level, script);
  }
  file("strip", "", 0o644);
  assert.equal(levels(await checkPrograms(machine())).strip, "fail");
});

test("memory: too little fails, too little left warns", async () => {
  const level = async (total: number, available: number): Promise<string | undefined> =>
    levels(await checkMemory(machine({ files: { meminfo: file("meminfo", `MemTotal:  ${total} kB\nMemAvailable: ${available} kB\n`) } })))
      .memory;
  assert.equal(await level(8_000_000, 6_000_000), "ok");
  assert.equal(await level(8_000_000, 500_000), "warn");
  assert.equal(await level(1_000_000, 900_000), "fail");
});

test("kvm: absent or not usable is a warning, never a failure", async () => {
  assert.equal(levels(await checkKvm(machine())).kvm, "warn");
  const kvm = file("kvm", "");
  assert.equal(levels(await checkKvm(machine({ files: { kvm } }))).kvm, "ok");
  const probed = await checkKvm(machine({ files: { kvm }, probeKvm: async () => ({ usable: false, reason: "the guest did not boot" }) }));
  assert.match(probed[0]?.found ?? "", /the guest did not boot/);
  assert.equal(probed[0]?.level, "warn");
});

test("port: free, ours, or another's", async () => {
  const server = createServer((_request, response) => response.setHeader("sprite-version", "v1").writeHead(401).end());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const listen = { host: "127.0.0.1", port };
  assert.equal(levels(await checkPort(machine())).port, "ok");
  assert.equal(levels(await checkPort(machine({ listen }))).port, "fail");
  assert.equal(levels(await checkPort(machine({ listen, daemonUrl: `http://127.0.0.1:${port}` }))).port, "ok");
  await new Promise((resolve) => server.close(resolve));
});

test("store: as the daemon says, and nothing where none says anything", async () => {
  let answer = "{}";
  const server = createServer((_request, response) => response.end(answer));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const daemonUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const found = () => checkStore(machine({ daemonUrl }));
  assert.deepEqual([await checkStore(machine()), await found()], [[], []]);
  for (const [store, level] of Object.entries({ ok: "ok", unavailable: "fail", refused: "fail" })) {
    answer = JSON.stringify({ ok: true, version: "1", store });
    assert.equal(levels(await found()).store, level, store);
  }
  await new Promise((resolve) => server.close(resolve));
  assert.deepEqual(await found(), []);
});

test("subids: a range of the user, by name or number, large enough", async () => {
  const level = async (text: string): Promise<string | undefined> =>
    levels(await checkSubids(machine({ files: { subuid: file("subuid", text), subgid: file("subgid", "ann:100000:65536\n") } }))).subuid;
  assert.equal(await level("bob:1:65536\nann:100000:65536\n"), "ok");
  assert.equal(await level("1000:100000:65536\n"), "ok");
  assert.equal(await level("ann:100000:1000\n"), "fail");
  assert.equal(await level(""), "fail");
  assert.deepEqual(await checkSubids(machine({ userId: 0 })), []);
});

test("a check that cannot run is a finding, and hides no other", async () => {
  const findings = levels(await examine(machine({ files: { meminfo: "/nonexistent" } })));
  assert.equal(findings.memory, "fail");
  assert.equal(findings.home, "ok");
  assert.equal(findings.node, "ok");
});

test("folders: how much they take on the disk", async () => {
  const [folder, cacheDir] = [join(home.path, "sized"), join(home.path, "sized/cache")];
  mkdirSync(cacheDir, { recursive: true });
  writeFileSync(join(cacheDir, "image"), Buffer.alloc(1024 * 1024, 1));
  const findings = await checkFolders(machine({ home: folder, cacheDir }));
  for (const name of ["home", "cache"]) assert.match(findings.find(({ check }) => check === name)?.found ?? "", /, 1\.\d MiB$/);
  assert.match((await checkFolders(machine()))[0]?.found ?? "", /yet \(will be made\)$/);
});

test("a home that cannot be one is found out", async () => {
  const findings = levels(await examine(machine({ home: join(file("a-file", ""), "home") })));
  assert.equal(findings.home, "fail");
});

test("the command: exit status 1 exactly when something fails", async () => {
  const json = await home.run(["doctor", "--json", "--listen", "127.0.0.1:0"]);
  const report = JSON.parse(json.stdout.toString()) as { ok: boolean; findings: Finding[] };
  assert.equal(json.status, report.ok ? 0 : 1);
  assert.equal(report.ok, !report.findings.some(({ level }) => level === "fail"));
  const bare = await home.run(["doctor"], { env: { HOB_LISTEN: "127.0.0.1:0" } });
  assert.equal(bare.status, json.status);
  assert.match(bare.stdout.toString(), /^(ok|warn|fail) +kvm /m);
});
