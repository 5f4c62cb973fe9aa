import { createSocket } from "node:dgram";
import { createServer } from "node:net";

/**
 * A process of world.ts: a DNS server that knows the names of its first argument, JSON of name to IPv4 address, and a
 * server at every address that says at which one it was reached.
 */
const [, , records = "{}", dnsAddress = ""] = process.argv;
const known = new Map(Object.entries(JSON.parse(records) as Record<string, string>));

const HEADER_BYTES = 12;
const TYPE_A = 1;

const dns = createSocket("udp4", (query, from) => {
  const { name, type, end } = readQuestion(query);
  const address = known.get(name);
  const found = address !== undefined && type === TYPE_A;
  const header = Buffer.from(query.subarray(0, HEADER_BYTES));
  // A response, recursion available; NXDOMAIN for a name that is not known. RFC 1035 section 4.1.1.
  header.writeUInt16BE(0x8180 | (address === undefined ? 3 : 0), 2);
  header.writeUInt16BE(found ? 1 : 0, 6);
  header.writeUInt32BE(0, 8);
  const answer = found ? [Buffer.from([0xc0, 0x0c, 0, TYPE_A, 0, 1, 0, 0, 0, 60, 0, 4, ...address.split(".").map(Number)])] : [];
  dns.send(Buffer.concat([header, query.subarray(HEADER_BYTES, end), ...answer]), from.port, from.address);
});
dns.bind(53, dnsAddress);

function readQuestion(query: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString("latin1", at + 1, at + 1 + length));
    at += length + 1;
  }
  return { name: labels.join(".").toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 };
}

let requests = 0;

const http = createServer((socket) => {
  socket.on("error", () => {});
  socket.once("data", () => requests++);
  socket.once("data", () => socket.end(`HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello from ${socket.localAddress}\n`));
});
http.listen(80, "0.0.0.0", () => process.stdout.write("ready\n"));
// Any input asks for the number of requests so far.
process.stdin.on("data", () => process.stdout.write(`${requests}\n`)).on("end", () => process.exit(0));
