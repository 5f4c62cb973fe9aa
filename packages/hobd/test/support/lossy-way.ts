import type { AddressInfo } from "node:net";
import { connect, createServer, type Server, type Socket } from "node:net";

/** What lies before a pilot: accepts every connection at once, and does with it what the test has planned. */
export class LossyWay implements AsyncDisposable {
  /** what becomes of the next connections, in order; of those after them: `pass` */
  readonly plan: ("pass" | "lose" | "hold")[] = [];
  /** connections so far */
  count = 0;
  /** of those that were lost or held, how many the host has closed */
  givenUp = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #held: (() => void)[] = [];
  readonly #lost: Socket[] = [];

  private constructor(pilotPort: () => number) {
    this.#server = createServer((socket) => {
      this.count++;
      this.#add(socket);
      const what = this.plan.shift() ?? "pass";
      if (what === "pass") return this.#join(socket, pilotPort());
      socket.once("close", () => this.givenUp++);
      if (what === "hold") this.#held.push(() => this.#join(socket, pilotPort()));
      else this.#lost.push(socket.resume());
    });
  }

  static async start(pilotPort: () => number): Promise<LossyWay> {
    const way = new LossyWay(pilotPort);
    await new Promise<void>((resolve) => way.#server.listen(0, "127.0.0.1", resolve));
    return way;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** What was held goes on. */
  release(): void {
    for (const join of this.#held.splice(0)) join();
  }

  /** The host hears of what was lost. */
  reset(): void {
    for (const socket of this.#lost.splice(0)) socket.destroy();
  }

  #join(socket: Socket, port: number): void {
    const onward = connect(port, "127.0.0.1");
    this.#add(onward);
    socket.pipe(onward).pipe(socket);
    socket.once("close", () => onward.destroy());
    onward.once("close", () => socket.destroy());
  }

  #add(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => {}).once("close", () => this.#sockets.delete(socket));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
