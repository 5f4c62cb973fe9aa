import type { HelperProcess, OutputSink, WindowSize } from "../helper/index.ts";

/** What a client sees of a session; implemented per transport. */
export interface SessionClient extends OutputSink {
  /** after all output; `exitCode` is 0 to 255 */
  ended(exitCode: number): void;
}

export interface SessionOptions {
  /** argv[0] and the like, as shown to clients; never logged */
  readonly command: string;
  readonly tty: WindowSize | undefined;
  /** milliseconds to outlive the client; 0 = no limit */
  readonly maxRunAfterDisconnectMs: number;
}

const STOPPED_MESSAGE = "hob: the sprite's container has stopped, and this command with it\r\n";
const LOST_MESSAGE = "hob: the connection to the command was lost inside the sprite\r\n";
/** After the container has stopped, its processes end at once; a session that has not noticed by then is ended here. */
const STOP_GRACE_MS = 2_000;
/** 128 + SIGKILL, which is how a container's processes die with it. */
const STOPPED_EXIT_CODE = 137;
/** No exit code is known; clients must not take it for success. */
const LOST_EXIT_CODE = 255;

/** One running command and, as long as one is there, its client. */
export class Session {
  readonly id: string;
  readonly command: string;
  readonly tty: WindowSize | undefined;
  readonly created = new Date();
  readonly process: HelperProcess;
  /** settles when the command has ended and the client, if any, knows; never rejects */
  readonly done: Promise<number>;
  readonly #maxRunAfterDisconnectMs: number;
  #client: SessionClient | undefined;
  #stopped = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(id: string, process: HelperProcess, options: SessionOptions, client: SessionClient) {
    this.id = id;
    this.command = options.command;
    this.tty = options.tty;
    this.process = process;
    this.#maxRunAfterDisconnectMs = options.maxRunAfterDisconnectMs;
    this.#client = client;
    this.done = this.#run();
  }

  /** Delivers output to the client from now on. */
  start(): void {
    this.process.start({
      stdout: (chunk) => this.#client?.stdout(chunk),
      stderr: (chunk) => this.#client?.stderr(chunk),
    });
  }

  /**
   * The client has gone. A terminal is hung up at once: nobody could come back to it as long as there is no way to
   * attach. A command without one runs on for its grace time, its output dropped.
   */
  disconnect(): void {
    if (this.#client === undefined) return;
    this.#client = undefined;
    this.process.resume();
    if (this.tty !== undefined) {
      this.process.close();
      return;
    }
    this.process.end();
    if (this.#maxRunAfterDisconnectMs > 0) this.#closeAfter(this.#maxRunAfterDisconnectMs);
  }

  /** The container has stopped: the command is dead or dying. */
  containerStopped(): void {
    this.#stopped = true;
    this.#closeAfter(STOP_GRACE_MS);
  }

  #closeAfter(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.process.close(), ms);
  }

  async #run(): Promise<number> {
    const code = await this.process.exited.then(
      (exit) => {
        if (exit.containerGone) this.#stopped = true;
        return exit.code;
      },
      () => {
        if (!this.#stopped) this.#explain(LOST_MESSAGE);
        return LOST_EXIT_CODE;
      },
    );
    clearTimeout(this.#timer);
    if (this.#stopped) this.#explain(STOPPED_MESSAGE);
    const reported = this.#stopped ? STOPPED_EXIT_CODE : code;
    this.#client?.ended(reported);
    this.#client = undefined;
    return reported;
  }

  #explain(message: string): void {
    const text = Buffer.from(this.tty === undefined ? message.replace("\r\n", "\n") : message);
    if (this.tty === undefined) this.#client?.stderr(text);
    else this.#client?.stdout(text);
  }
}

/** All sessions of the sprite. Ids are decimal strings, as clients decode them as strings and use them in paths. */
export class SessionRegistry {
  readonly #sessions = new Map<string, Session>();
  #lastId = 0;

  get size(): number {
    return this.#sessions.size;
  }

  get(id: string): Session | undefined {
    return this.#sessions.get(id);
  }

  list(): Session[] {
    return [...this.#sessions.values()];
  }

  /** Takes a process that has started; it leaves the registry when it ends. */
  add(process: HelperProcess, options: SessionOptions, client: SessionClient): Session {
    this.#lastId += 1;
    const session = new Session(String(this.#lastId), process, options, client);
    this.#sessions.set(session.id, session);
    session.done.finally(() => this.#sessions.delete(session.id));
    return session;
  }

  containerStopped(): void {
    for (const session of this.#sessions.values()) session.containerStopped();
  }

  /** Hangs up all sessions and waits for their end. */
  async closeAll(): Promise<void> {
    const sessions = this.list();
    for (const session of sessions) session.process.close();
    await Promise.all(sessions.map((session) => session.done));
  }
}
