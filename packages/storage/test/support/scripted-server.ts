import { createServer, type IncomingHttpHeaders, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from "node:http";
import { listening } from "./listening.ts";

export interface SeenRequest {
  method: string;
  /** path and query as sent */
  target: string;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

export interface ScriptedAnswer {
  status: number;
  headers?: OutgoingHttpHeaders;
  body?: string;
  /** drops the connection after so many bytes of the body, whose whole length was announced */
  cutAfter?: number;
}

export interface ScriptedServer extends AsyncDisposable {
  endpoint: string;
  /** what answers */
  answer: (request: SeenRequest) => ScriptedAnswer;
  readonly seen: SeenRequest[];
}

/** An HTTP server that answers what a test tells it, for what no real server here can be brought to do. */
export async function startScriptedServer(): Promise<ScriptedServer> {
  const server = createServer((incoming, outgoing) => {
    void (async () => {
      const request = await wholeRequest(incoming);
      scripted.seen.push(request);
      reply(outgoing, scripted.answer(request));
    })();
  });
  const { port, [Symbol.asyncDispose]: close } = await listening(server);
  const scripted: ScriptedServer = {
    endpoint: `http://127.0.0.1:${port}`,
    answer: () => ({ status: 500 }),
    seen: [],
    [Symbol.asyncDispose]: close,
  };
  return scripted;
}

async function wholeRequest(incoming: IncomingMessage): Promise<SeenRequest> {
  const body: Buffer[] = [];
  for await (const part of incoming as AsyncIterable<Buffer>) body.push(part);
  return { method: incoming.method ?? "", target: incoming.url ?? "", headers: incoming.headers, body: Buffer.concat(body) };
}

function reply(outgoing: ServerResponse, { status, headers, body = "", cutAfter }: ScriptedAnswer): void {
  if (cutAfter === undefined) outgoing.writeHead(status, headers).end(body);
  else {
    outgoing.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body) });
    outgoing.write(body.slice(0, cutAfter), () => outgoing.destroy());
  }
}

/** The answers one after the other; the last of them again and again. */
export function inTurn(...answers: readonly ScriptedAnswer[]): () => ScriptedAnswer {
  let next = 0;
  return () => answers[Math.min(next++, answers.length - 1)] ?? { status: 500 };
}

/** An error as S3 tells it. */
export const s3Refusal = (status: number, code: string, headers: OutgoingHttpHeaders = {}, more = ""): ScriptedAnswer => ({
  status,
  headers: { "content-type": "application/xml", ...headers },
  body: `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>told to</Message>${more}<RequestId>1</RequestId></Error>`,
});

/** Objects of a server that knows PUT, GET and DELETE, and of the conditions those alone that it is to know. */
export function emulateObjects(conditions: readonly ("if-match" | "if-none-match")[], otherwise?: ScriptedAnswer) {
  const etags = new Map<string, string>();
  let written = 0;
  return ({ method, target, headers }: SeenRequest): ScriptedAnswer => {
    const present = etags.get(target);
    if (method === "DELETE") etags.delete(target);
    if (method !== "PUT") return { status: method === "DELETE" ? 204 : 404 };
    const asked = (["if-match", "if-none-match"] as const).find((name) => headers[name] !== undefined);
    if (asked !== undefined && !conditions.includes(asked) && otherwise !== undefined) return otherwise;
    if (asked !== undefined && conditions.includes(asked)) {
      const holds = asked === "if-match" ? present === headers["if-match"] : present === undefined;
      if (!holds) return s3Refusal(412, "PreconditionFailed");
    }
    const etag = `"${written++}"`;
    etags.set(target, etag);
    return { status: 200, headers: { etag } };
  };
}
