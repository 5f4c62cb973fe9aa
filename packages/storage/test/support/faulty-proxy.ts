import { createServer, type IncomingMessage, type OutgoingHttpHeaders, request, type ServerResponse } from "node:http";
import { Transform } from "node:stream";
import { AwsV4Signer } from "aws4fetch";
import type { S3Credentials } from "../../src/store/s3-credentials.ts";
import { listening } from "./listening.ts";

/** What happens to one request. After `drop-after` and `cut-answer` the server behind has done it. */
export type ProxyFault = "none" | "503" | "drop" | "drop-after" | "hang" | "cut-answer";

export interface FaultyProxy extends AsyncDisposable {
  endpoint: string;
  /** decides over each request as it comes */
  decide: (request: IncomingMessage) => ProxyFault;
  /** turns over a bit of each request's body */
  damageBodies: boolean;
  /** signs requests anew without their conditions, as if the server did not know these */
  withoutConditions: S3Credentials | undefined;
  readonly seen: string[];
}

/** An HTTP proxy in front of one S3 server that misbehaves as it is told. It keeps the host name that the client signed. */
export async function startFaultyProxy(behind: string): Promise<FaultyProxy> {
  const server = createServer((incoming, outgoing) => {
    proxy.seen.push(`${incoming.method} ${incoming.url}`);
    const fault = proxy.decide(incoming);
    if (fault === "drop") incoming.socket.destroy();
    else if (fault === "503") incoming.resume().on("end", () => outgoing.writeHead(503).end("<Error><Code>SlowDown</Code></Error>"));
    else if (fault !== "hang") void pass(proxy, behind, incoming, outgoing, fault);
  });
  const { port, [Symbol.asyncDispose]: close } = await listening(server);
  const proxy: FaultyProxy = {
    endpoint: `http://127.0.0.1:${port}`,
    decide: () => "none",
    damageBodies: false,
    withoutConditions: undefined,
    seen: [],
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
  const onward = request(target, { method: incoming.method, headers }, (answer) => {
    if (fault === "drop-after") {
      answer.resume();
      incoming.socket.destroy();
      return;
    }
    outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
    if (fault === "none") answer.pipe(outgoing);
    else {
      outgoing.flushHeaders();
      answer.once("readable", () => {
        const data: Buffer = answer.read() ?? Buffer.alloc(0);
        outgoing.write(data.subarray(0, data.length / 2), () => incoming.socket.destroy());
      });
    }
  });
  onward.on("error", () => incoming.socket.destroy());
  incoming.pipe(proxy.damageBodies ? damaging() : new Transform({ transform: (data, _, done) => done(null, data) })).pipe(onward);
}

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
