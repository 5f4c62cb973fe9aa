import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import type { NetworkLogEntry } from "@hob/protocol";
import fc from "fast-check";
import { AddressBook } from "../src/network/address-book.ts";
import { AuditLog } from "../src/network/audit-log.ts";
import { ALLOWED_MAX, ALLOWED_SECONDS } from "../src/network/firewall.ts";
import { PacketLog, parseRecord } from "../src/network/packet-log.ts";
import { QueryLog } from "../src/network/query-log.ts";
import { Refuser, refuse } from "../src/network/refuser.ts";
import { compileRules } from "../src/network/rules.ts";
import { networkLogRoutes } from "../src/policies/log-routes.ts";
import { waitFor } from "./support/helper.ts";

const directory = mkdtempSync(join(tmpdir(), "hob-network-parts-"));
after(() => rmSync(directory, { recursive: true, force: true }));

describe("query log", () => {
  test("ties an answer's addresses to the name that was asked for", () => {
    const log = new QueryLog();
    const read = (text: string) => log.read(`dnsmasq[17]: ${text}`);
    assert.deepEqual(read("started, version 2.91 cache disabled"), { kind: "started" });
    assert.deepEqual(read("7 10.0.0.1/4242 query[A] www.example.com from 10.0.0.1"), { kind: "query", name: "www.example.com", type: "A" });
    assert.deepEqual(read("8 10.0.0.1/4243 query[type=65] other.test from 10.0.0.1"), {
      kind: "query",
      name: "other.test",
      type: "type=65",
    });
    assert.equal(read("7 10.0.0.1/4242 forwarded www.example.com to 10.9.0.3"), undefined);
    assert.equal(read("7 10.0.0.1/4242 reply www.example.com is <CNAME>"), undefined);
    assert.deepEqual(read("7 10.0.0.1/4242 reply edge.example.net is 93.184.216.34"), {
      kind: "address",
      name: "www.example.com",
      address: "93.184.216.34",
    });
    assert.deepEqual(read("7 10.0.0.1/4242 cached www.example.com is 2606:2800::1"), {
      kind: "address",
      name: "www.example.com",
      address: "2606:2800::1",
    });
    assert.equal(read("9 10.0.0.1/1 reply unknown.test is 1.2.3.4"), undefined, "nobody asked");
  });

  test("takes no name for an address and no answer of one name for another's", () => {
    const log = new QueryLog();
    const evil = "good.test is 6.6.6.6";
    assert.deepEqual(log.read(`dnsmasq[1]: 1 10.0.0.1/1 query[A] ${evil} from 10.0.0.1`), { kind: "query", name: evil, type: "A" });
    assert.equal(log.read(`dnsmasq[1]: 1 10.0.0.1/1 reply ${evil} is NXDOMAIN`), undefined);
    const event = log.read("dnsmasq[1]: 1 10.0.0.1/1 query[A] x from 1.1.1.1 from 10.0.0.1");
    assert.deepEqual(event, { kind: "query", name: "x from 1.1.1.1", type: "A" });
  });

  test("reads whatever comes", () => {
    const log = new QueryLog();
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 200 }), (line) => void log.read(line)),
      { numRuns: 2_000 },
    );
    fc.assert(
      fc.property(
        fc.array(
          fc.constantFrom("dnsmasq[1]: ", "7 ", "10.0.0.1/1 ", "query[A] ", "a.test", " from ", "reply ", " is ", "1.2.3.4", "::1", " "),
        ),
        (parts) => void log.read(parts.join("")),
      ),
      { numRuns: 2_000 },
    );
  });
});

describe("address book", () => {
  const rules = compileRules([{ domain: "a.test", action: "allow" }]);
  const day = ALLOWED_SECONDS * 1_000;

  test("keeps an address allowed while one allowed name has it", () => {
    const book = new AddressBook();
    book.note("a.test", "1.1.1.1", 0);
    book.note("b.test", "1.1.1.1", 0);
    book.note("b.test", "2.2.2.2", 0);
    assert.deepEqual(book.allowed(rules, 1), ["1.1.1.1"]);
    assert.deepEqual(book.allowed(compileRules([{ domain: "b.test", action: "allow" }]), 1), ["1.1.1.1", "2.2.2.2"]);
    assert.deepEqual(book.allowed(compileRules([{ domain: "*", action: "deny" }]), 1), []);
  });

  test("forgets what no name has resolved to for as long as an address is allowed", () => {
    const book = new AddressBook();
    book.note("a.test", "1.1.1.1", 0);
    assert.deepEqual(book.allowed(rules, day), ["1.1.1.1"]);
    assert.deepEqual(book.allowed(rules, day + 1), []);
    assert.equal(book.size, 0);
  });

  test("has an address renewed once in half of its time", () => {
    const book = new AddressBook();
    assert.equal(book.note("a.test", "1.1.1.1", 0), false);
    assert.equal(book.note("a.test", "1.1.1.1", day / 2 - 1), false);
    assert.equal(book.note("a.test", "1.1.1.1", day / 2), true);
    assert.equal(book.note("a.test", "1.1.1.1", day / 2 + 1), false);
    assert.equal(book.note("a.test", "1.1.1.1", day), true);
  });

  test("is bounded, and takes only addresses", () => {
    const book = new AddressBook();
    assert.equal(book.note("a.test", "not one", 0), false);
    assert.equal(book.size, 0);
    for (let i = 0; i < ALLOWED_MAX + 100; i++) book.note(`n${i}.test`, `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, i);
    assert.equal(book.size, ALLOWED_MAX);
    for (let i = 0; i < 100; i++) book.note(`m${i}.test`, "1.1.1.1", i);
    assert.deepEqual(book.allowed(compileRules([{ domain: "m0.test", action: "allow" }]), 100), [], "the oldest names went");
    assert.deepEqual(book.allowed(compileRules([{ domain: "m99.test", action: "allow" }]), 100), ["1.1.1.1"]);
  });
});

describe("audit log", () => {
  const lookup = (name: string) => ({ type: "lookup", action: "deny", name, query: "A" }) as const;
  const parsed = (lines: readonly string[]) => lines.map((line) => JSON.parse(line) as NetworkLogEntry);

  test("writes entries once a minute each, and finds the newest again", async () => {
    let now = 1_000_000;
    const log = new AuditLog(join(directory, "a/network.ndjson"), () => now);
    log.record(lookup("a.test"));
    log.record(lookup("a.test"));
    log.record({ type: "policy", count: 1 });
    log.record({ type: "policy", count: 1 });
    now += 60_000;
    log.record(lookup("a.test"));
    const kinds = async (count: number) => parsed(await log.tail(count)).map(({ type, name }) => name ?? type);
    assert.deepEqual(await kinds(10), ["a.test", "policy", "policy", "a.test"]);
    assert.deepEqual(await kinds(1), ["a.test"]);
    assert.deepEqual(await kinds(0), []);
    assert.equal(statSync(join(directory, "a/network.ndjson")).mode & 0o777, 0o600);
  });

  test("counts what is too much, and stays within two files of a megabyte", async () => {
    let now = 0;
    const file = join(directory, "b.ndjson");
    const log = new AuditLog(file, () => now);
    for (let i = 0; i < 130; i++) log.record(lookup(`n${i}.test`));
    const entries = parsed(await log.tail(1_000));
    assert.equal(entries.length, 101);
    assert.deepEqual(entries.at(-1), { time: "1970-01-01T00:00:00.000Z", type: "suppressed", count: 30 });
    const long = "x".repeat(1_000);
    for (let second = 1; second < 30; second++) {
      now = second * 1_000;
      for (let i = 0; i < 100; i++) log.record(lookup(`${long}${second}-${i}`));
      await log.flush();
    }
    for (const path of [file, `${file}.1`]) assert.ok(statSync(path).size <= 1024 * 1024, path);
    assert.ok(readFileSync(file, "utf8").includes("29-99"));
  });

  test("a log that cannot be written does no harm", async () => {
    writeFileSync(join(directory, "plain"), "");
    const log = new AuditLog(join(directory, "plain/network.ndjson"));
    log.record(lookup("a.test"));
    assert.deepEqual(await log.tail(10), []);
  });

  test("its route gives the newest entries, and with follow what happens from then on", async () => {
    const log = new AuditLog(join(directory, "c.ndjson"));
    for (const name of ["a.test", "b.test", "c.test"]) log.record(lookup(name));
    const app = networkLogRoutes(log);
    const plain = await (await app.request("/policy/network/log?tail=2")).text();
    assert.deepEqual(
      parsed(plain.trim().split("\n")).map(({ name }) => name),
      ["b.test", "c.test"],
    );
    const stop = new AbortController();
    const answer = await app.request(new Request("http://pilot/policy/network/log?tail=1&follow=true", { signal: stop.signal }));
    assert.equal(answer.headers.get("content-type"), "application/x-ndjson");
    let text = "";
    const reader = (answer.body as ReadableStream<Uint8Array>).getReader();
    const read = (async () => {
      for (let part = await reader.read(); !part.done; part = await reader.read()) text += Buffer.from(part.value).toString();
    })();
    await waitFor(() => text.includes("c.test"), "tail");
    log.record(lookup("d.test"));
    await waitFor(() => text.includes("d.test"), "new entry");
    assert.equal(text.split("c.test").length, 2, "told once");
    await reader.cancel();
    await read;
  });
});

describe("refuser", () => {
  const query = Buffer.from("1234010000010000000000000361646304746573740000010001", "hex");

  test("answers a query with its own question and REFUSED", () => {
    const answer = refuse(query) as Buffer;
    assert.equal(answer.toString("hex"), `12348105${query.toString("hex").slice(8)}`);
    assert.equal(refuse(answer), undefined, "an answer is no query");
    assert.equal(refuse(Buffer.alloc(11)), undefined);
  });

  test("answers over TCP, in whatever pieces the query comes", async () => {
    const refuser = new Refuser();
    await refuser.start({ address: "127.0.0.1", port: 0 });
    const socket = connect(refuser.port, "127.0.0.1");
    let got = Buffer.alloc(0);
    socket.on("data", (data) => {
      got = Buffer.concat([got, data]);
    });
    const framed = Buffer.concat([Buffer.from([0, query.length]), query]);
    for (const part of [framed.subarray(0, 1), framed.subarray(1, 9), Buffer.concat([framed.subarray(9), framed])]) socket.write(part);
    await waitFor(() => got.length === 2 * framed.length, "two answers");
    assert.equal(got.subarray(2, 6).toString("hex"), "12348105");
    socket.destroy();
    refuser.stop();
  });
});

describe("packet log", () => {
  const record =
    "6,512,4711000,-;hob-blocked IN=spr0h OUT=eth0 MAC=aa:bb SRC=10.0.0.1 DST=1.1.1.1 LEN=60 TOS=0x00 TTL=63 ID=1 DF PROTO=TCP SPT=4242 DPT=443 WINDOW=1 SYN URGP=0 MARK=0x1 \n";

  test("reads what the kernel logs of a stopped packet, and nothing else", () => {
    assert.deepEqual(parseRecord(record), { protocol: "tcp", address: "1.1.1.1", port: 443 });
    const ping = "6,1,1,-;hob-blocked IN=spr0h OUT=eth0 SRC=fdf::1 DST=2606:2800::1 LEN=104 PROTO=ICMPv6 TYPE=128 CODE=0 \n";
    assert.deepEqual(parseRecord(ping), { protocol: "icmpv6", address: "2606:2800::1", port: undefined });
    assert.equal(parseRecord("6,1,1,-;eth0: link becomes ready\n"), undefined);
    assert.equal(parseRecord(""), undefined);
  });

  test("does without the device where there is none", () => {
    const log = new PacketLog(() => assert.fail(), join(directory, "no-kmsg"));
    log.start();
    log.poll();
    log.stop();
  });
});
