import type { WebSocket } from "ws";

/** Output of these sessions, in pieces on alternating streams. */
export const BROKEN_OUTPUT = Buffer.from(Array.from({ length: 50_000 }, (_, i) => (i * 7 + (i >> 8)) & 0xff));
const PIECE_BYTES = 500;

const TERMINAL = "terminal";

/** Sessions whose connection breaks again and again; written from the description of attaching. */
export class BrokenSessions {
  /** input that each session has got */
  readonly input = new Map<string, Buffer>();
  /** how many connections each had */
  readonly connections = new Map<string, number>();
  /** output that is kept no more */
  dropped = 0;
  /** `created` changes: another session has the id */
  replaced = false;
  #lastId = 100;

  start(socket: WebSocket, kind: string): void {
    this.#lastId += 1;
    const id = String(this.#lastId);
    this.input.set(id, Buffer.alloc(0));
    this.#serve(socket, id, kind, 0, false);
  }

  /** A session on a terminal that can be attached to: it says back what it gets, and ends with status 3 on "q". @returns its id */
  addTerminal(): string {
    this.#lastId += 1;
    const id = String(this.#lastId);
    this.input.set(id, Buffer.alloc(0));
    this.#kinds.set(id, TERMINAL);
    return id;
  }

  attach(socket: WebSocket, id: string, offset: number): void {
    if (this.#kinds.get(id) === TERMINAL) serveTerminal(socket, id);
    else this.#serve(socket, id, this.#kinds.get(id) ?? "", Math.max(offset, this.dropped), true);
  }

  readonly #kinds = new Map<string, string>();

  #serve(socket: WebSocket, id: string, kind: string, offset: number, isBack: boolean): void {
    this.#kinds.set(id, kind);
    this.connections.set(id, (this.connections.get(id) ?? 0) + 1);
    socket.on("error", () => {});
    const info = { type: "session_info", session_id: id, command: kind, created: isBack && this.replaced ? 2 : 1, is_owner: true };
    const extra = isBack ? { output_offset: offset, first_output_offset: 0, input_offset: this.input.get(id)?.length } : {};
    socket.send(JSON.stringify({ ...info, cols: 0, rows: 0, tty: false, ...extra }));
    if (kind === "broken:input") this.#takeInput(socket, id);
    else this.#sendOutput(socket, kind, offset);
  }

  /** A few pieces, and then the end of the connection in the middle. */
  #sendOutput(socket: WebSocket, kind: string, from: number): void {
    let at = from;
    for (let pieces = 0; at < BROKEN_OUTPUT.length && (kind === "broken:once-more" || pieces < 25); pieces++) {
      const end = Math.min(at + PIECE_BYTES, BROKEN_OUTPUT.length);
      socket.send(Buffer.concat([Buffer.of(1 + (pieces % 2)), BROKEN_OUTPUT.subarray(at, end)]));
      at = end;
    }
    if (at < BROKEN_OUTPUT.length) return void socket.send("{}", () => socket.terminate());
    socket.send(Buffer.of(3, 6));
    socket.close(1000);
  }

  /** Takes what it likes and breaks: what is on its way then is lost. */
  #takeInput(socket: WebSocket, id: string): void {
    let taken = 0;
    socket.on("message", (data: Buffer, isBinary) => {
      if (!isBinary || taken > 500_000) return;
      if (data[0] === 4) {
        socket.send(Buffer.of(3, 0));
        return socket.close(1000);
      }
      taken += data.length - 1;
      this.input.set(id, Buffer.concat([this.input.get(id) ?? Buffer.alloc(0), data.subarray(1)]));
      if (taken > 500_000) setTimeout(() => socket.terminate(), 5);
    });
  }
}

function serveTerminal(socket: WebSocket, id: string): void {
  socket.on("error", () => {});
  socket.send(
    JSON.stringify({
      ...{ type: "session_info", session_id: id, command: TERMINAL, created: 1, is_owner: true, cols: 80, rows: 24, tty: true },
      ...{ output_offset: 0, first_output_offset: 0, input_offset: 0 },
    }),
  );
  socket.send(Buffer.from("output so far\r\n"));
  socket.on("message", (data: Buffer, isBinary) => {
    if (!isBinary) return;
    socket.send(data);
    if (data.toString() !== "q") return;
    socket.send(JSON.stringify({ type: "exit", exit_code: 3, code: 3 }));
    socket.close(4003);
  });
}
