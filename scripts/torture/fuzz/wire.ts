/** Bytes on real sockets: what a client sends to a server of ours, and the answers it gets. */
import { connect, type NetConnectOpts, type Socket } from "node:net";
import { isErrorCode } from "@hob/protocol";
import { ensure, Fault, type Verdict } from "./target.ts";

/** Milliseconds of silence after which a client has nothing more to wait for, and closes its side. */
const QUIET_MS = 40;
/** Milliseconds a server then has to close as well. */
const CLOSE_MS = 10_000;
const ANSWER_BYTES_MAX = 4 * 1024 * 1024;

/** One answer in a stream of them. */
export interface HttpAnswer {
  readonly status: number;
  readonly head: string;
  readonly body: Buffer;
  /** undefined when the connection ended before the answer did */
  readonly end: number | undefined;
}

/**
 * Sends bytes piece by piece and gives all that comes back before the connection ends. It ends when the server ends it, or
 * after a silence.
 * @throws Fault `hang` if the server keeps a connection that the client has ended
 */
export async function exchange(to: NetConnectOpts, parts: readonly Buffer[]): Promise<Buffer> {
  const socket = connect(to);
  socket.on("error", () => {});
  const received: Buffer[] = [];
  let bytes = 0;
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= ANSWER_BYTES_MAX) received.push(chunk);
    else socket.destroy();
  });
  for (const part of parts) {
    socket.write(part);
    if (parts.length > 1) await new Promise((resolve) => setImmediate(resolve));
  }
  await quiet(socket);
  socket.end();
  const late = setTimeout(() => socket.destroy(new Error("late")), CLOSE_MS);
  let isLate = false;
  socket.once("error", (error) => {
    isLate = error.message === "late";
  });
  await closed;
  clearTimeout(late);
  if (isLate) throw new Fault("hang", `the server keeps the connection ${CLOSE_MS} ms after the client's end`);
  return Buffer.concat(received);
}

/** Until nothing has come for a while, or the connection has ended. */
function quiet(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, QUIET_MS);
    const refresh = () => timer.refresh();
    function done(): void {
      clearTimeout(timer);
      socket.off("data", refresh).off("close", done).off("end", done);
      resolve();
    }
    if (socket.destroyed) return done();
    socket.on("data", refresh).once("close", done).once("end", done);
  });
}

/** The answers at the beginning of what a server sent. What follows an upgrade is left as the body of its answer. */
export function answersIn(bytes: Buffer): HttpAnswer[] {
  const answers: HttpAnswer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const headEnd = bytes.indexOf("\r\n\r\n", at);
    if (headEnd < 0) break;
    const head = bytes.toString("latin1", at, headEnd);
    const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(head)?.[1] ?? 0);
    ensure(status !== 0, () => `no HTTP answer: ${JSON.stringify(head.slice(0, 100))}`);
    const { body, end } = bodyOf(bytes, headEnd + 4, head, status);
    answers.push({ status, head, body, end });
    if (end === undefined) break;
    at = end;
  }
  return answers;
}

function bodyOf(bytes: Buffer, from: number, head: string, status: number): { body: Buffer; end: number | undefined } {
  const length = /^content-length: (\d+)$/im.exec(head)?.[1];
  if (status === 101) return { body: bytes.subarray(from), end: undefined };
  if (status < 200 || status === 204 || status === 304) return { body: Buffer.alloc(0), end: from };
  if (/^transfer-encoding: chunked$/im.test(head)) return dechunk(bytes, from);
  const end = length === undefined ? bytes.length : from + Number(length);
  return { body: bytes.subarray(from, end), end: end <= bytes.length ? end : undefined };
}

function dechunk(bytes: Buffer, from: number): { body: Buffer; end: number | undefined } {
  const parts: Buffer[] = [];
  for (let at = from; ; ) {
    const lineEnd = bytes.indexOf("\r\n", at);
    const size = lineEnd < 0 ? Number.NaN : Number.parseInt(bytes.toString("latin1", at, lineEnd), 16);
    if (Number.isNaN(size)) return { body: Buffer.concat(parts), end: undefined };
    if (size === 0) return { body: Buffer.concat(parts), end: lineEnd + 4 };
    parts.push(bytes.subarray(lineEnd + 2, lineEnd + 2 + size));
    at = lineEnd + 2 + size + 2;
  }
}

/**
 * What answers say of a request: none of them that the server failed, each error of ours with a code that is documented.
 * @param codes documented codes of 500 and above that a request may bring about
 */
export function judge(answers: readonly HttpAnswer[], codes: readonly string[] = []): Verdict {
  for (const { status, head, body, end } of answers) {
    const error = errorOf(head, body, end);
    if (status >= 500 && !(error !== undefined && codes.includes(error))) {
      throw new Fault("5xx", `${head.split("\r\n")[0]}: ${body.toString("utf8").slice(0, 500)}`);
    }
  }
  const first = answers[0];
  return first !== undefined && first.status < 400 ? "accepted" : "refused";
}

function errorOf(head: string, body: Buffer, end: number | undefined): string | undefined {
  const isError = /^HTTP\/1\.[01] [45]/.test(head) && /^content-type: application\/json/im.test(head);
  if (!isError || end === undefined || body.length === 0) return undefined;
  let value: { error?: unknown; code?: unknown };
  try {
    value = JSON.parse(body.toString("utf8")) as typeof value;
  } catch (cause) {
    throw new Fault("wrong", `an error that is not JSON: ${body.toString("utf8").slice(0, 200)}`, { cause });
  }
  ensure(typeof value.error === "string", () => `an error without a code: ${body.toString("utf8").slice(0, 200)}`);
  // Errors of files have words there, and the errno beside them, as the SDKs read them.
  ensure(typeof value.code === "string" || isErrorCode(value.error), () => `an error that is not documented: ${value.error}`);
  return value.error;
}

/** An HTTP request as bytes. */
export function httpRequest(
  method: string,
  target: string,
  headers: Readonly<Record<string, string>> = {},
  body?: string | Buffer,
): Buffer {
  const bytes = body === undefined ? Buffer.alloc(0) : Buffer.from(body);
  const length = body === undefined ? {} : { "Content-Length": String(bytes.length) };
  const lines = Object.entries({ Host: "127.0.0.1", ...headers, ...length }).map(([name, value]) => `${name}: ${value}`);
  return Buffer.concat([Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`, "latin1"), bytes]);
}

export const UPGRADE: Readonly<Record<string, string>> = {
  Connection: "Upgrade",
  Upgrade: "websocket",
  "Sec-WebSocket-Version": "13",
  "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
};
