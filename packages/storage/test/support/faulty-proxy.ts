import { createServer, type IncomingMessage, type OutgoingHttpHeaders, request, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { pipeline, Transform } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { AwsV4Signer } from "aws4fetch";
import type { S3Credentials } from "../../src/store/s3-credentials.ts";
import { listening } from "./listening.ts";

/** What happens to one request. After `drop-after` and `cut-answer` the server behind has done it. */
export type ProxyFault = "none" | "503" | "drop" | "drop-after" | "hang" | "cut-answer" | Slowness;

/** It succeeds, but late. */
export interface Slowness {
  /** before the server sees it */
  delayMs?: number;
  /** of request and answer */
  bytesPerSecond?: number;
}

export interface FaultyProxy extends AsyncDisposable {
  endpoint: string;
  /** decides over each request as it comes */
  decide: (request: IncomingMessage) => ProxyFault;
  /** turns over a bit of each request's body */
  damageBodies: boolean;
  /** signs requests anew without their conditions, as if the server did not know these */
  withoutConditions: S3Credentials | undefined;
  readonly seen: string[];
  /** Ends the connections of requests that hang until now. */
  endHanging(): void;
}

/** An HTTP proxy in front of one S3 server that misbehaves as it is told. It keeps the host name that the client signed. */
export async function startFaultyProxy(behind: string): Promise<FaultyProxy> {
  const server = createServer((incoming, outgoing) => {
    proxy.seen.push(`${incoming.method} ${incoming.url}`);
    const fault = proxy.decide(incoming);
    if (fault === "drop") incoming.socket.destroy();
    else if (fault === "503") incoming.resume().on("end", () => outgoing.writeHead(503).end("<Error><Code>SlowDown</Code></Error>"));
    else if (fault === "hang") hanging.add(incoming.socket);
    else void pass(proxy, behind, incoming, outgoing, fault);
  });
  const { port, [Symbol.asyncDispose]: close } = await listening(server);
  const hanging = new Set<Socket>();
  const proxy: FaultyProxy = {
    endpoint: `http://127.0.0.1:${port}`,
    decide: () => "none",
    damageBodies: false,
    withoutConditions: undefined,
    seen: [],
    endHanging: () => {
      for (const socket of hanging) socket.destroy();
      hanging.clear();
    },
    [Symbol.asyncDispose]: close,
  };
  return proxy;
}

async function pass(
  proxy: FaultyProxy,
  behind: string,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  fault: ProxyFault,
): Promise<void> {
  const target = new URL(incoming.url ?? "/", behind);
  const headers = proxy.withoutConditions === undefined ? incoming.headers : await unconditional(proxy.withoutConditions, incoming, target);
  const { delayMs = 0, bytesPerSecond }: Slowness = typeof fault === "object" ? fault : {};
  if (delayMs > 0) await delay(delayMs);
  const onward = request(target, { method: incoming.method, headers }, (answer) => {
    if (fault === "drop-after") {
      answer.resume();
      incoming.socket.destroy();
      return;
    }
    outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
    // A server that is killed in the middle of its answer cuts it off here too.
    if (fault !== "cut-answer") pipeline(answer, throttle(bytesPerSecond), outgoing, () => {});
    else {
      outgoing.flushHeaders();
      answer.once("readable", () => {
        const data: Buffer = answer.read() ?? Buffer.alloc(0);
        outgoing.write(data.subarray(0, data.length / 2), () => incoming.socket.destroy());
      });
    }
  });
  onward.on("error", () => incoming.socket.destroy());
  pipeline(incoming, proxy.damageBodies ? damaging() : throttle(bytesPerSecond), onward, () => {});
}

const throttle = (bytesPerSecond: number | undefined): Transform =>
  new Transform({
    transform: (data: Buffer, _, done) => {
      if (bytesPerSecond === undefined) done(null, data);
      else setTimeout(() => done(null, data), (data.length / bytesPerSecond) * 1_000);
    },
  });

const damaging = (): Transform =>
  new Transform({
    transform: (data: Buffer, _, done) => {
      const damaged = Buffer.from(data);
      damaged.writeUInt8(damaged.readUInt8(0) ^ 1, 0);
      done(null, damaged);
    },
  });

async function unconditional(credentials: S3Credentials, incoming: IncomingMessage, target: URL): Promise<OutgoingHttpHeaders> {
  const { "if-match": _match, "if-none-match": _none, "content-length": length, "x-amz-content-sha256": hash } = incoming.headers;
  const signer = new AwsV4Signer({
    ...credentials,
    method: incoming.method ?? "GET",
    url: target.href,
    headers: { "x-amz-content-sha256": String(hash) },
    service: "s3",
    region: "us-east-1",
  });
  const { headers } = await signer.sign();
  return { ...Object.fromEntries(headers), host: target.host, ...(length === undefined ? {} : { "content-length": length }) };
}
