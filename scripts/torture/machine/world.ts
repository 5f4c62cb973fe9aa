import { copyFileSync, existsSync, globSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { S3Store } from "../../../packages/storage/src/store/s3-store.ts";
import { type FaultyProxy, startFaultyProxy } from "../../../packages/storage/test/support/faulty-proxy.ts";
import { type RadosGateway, startRadosGateway } from "../../../packages/storage/test/support/rados-gateway.ts";
import { TestDaemon } from "../../../test/e2e/support/test-daemon.ts";
import { lastingFolder } from "../../lib/scratch.ts";
import { StoreFaults } from "./faults.ts";
import { eventually } from "./limits.ts";

const BUCKET = "hob-torture";
const PREFIX = "kept";

/** A daemon, and an S3 server in processes of its own that it reaches through a proxy of this one. */
export class World implements AsyncDisposable {
  readonly daemon: TestDaemon;
  readonly gateway: RadosGateway;
  readonly faults: StoreFaults;
  /** sees what is in the store, past the proxy */
  readonly store: S3Store;
  readonly #undo: AsyncDisposableStack;

  private constructor(parts: {
    daemon: TestDaemon;
    gateway: RadosGateway;
    faults: StoreFaults;
    store: S3Store;
    undo: AsyncDisposableStack;
  }) {
    this.daemon = parts.daemon;
    this.gateway = parts.gateway;
    this.faults = parts.faults;
    this.store = parts.store;
    this.#undo = parts.undo;
  }

  static async start(): Promise<World> {
    await using undo = new AsyncDisposableStack();
    const home = undo.adopt(mkdtempSync(join(tmpdir(), "hob-torture-")), (path) => rmSync(path, { recursive: true, force: true }));
    const gateway = undo.use(await startRadosGateway({ durable: true }));
    const bucket = await gateway.bucket(BUCKET);
    const proxy: FaultyProxy = undo.use(await startFaultyProxy(gateway.endpoint));
    const faults = undo.use(new StoreFaults(proxy));
    const { accessKeyId, secretAccessKey } = gateway.credentials;
    const daemon = await TestDaemon.start({
      home,
      flags: ["--store", `s3://${BUCKET}/${PREFIX}?endpoint=${encodeURIComponent(proxy.endpoint)}&path_style=true`],
      env: { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey },
    });
    // Also checks that no process, mount or folder is left.
    undo.use(daemon);
    return new World({ daemon, gateway, faults, store: new S3Store(bucket), undo: undo.move() });
  }

  /** Starts the daemon again. It does not begin without its store, which may be away: then it is tried until that is back. */
  async restartDaemon(): Promise<void> {
    await eventually("start of the daemon", () => this.daemon.restart());
  }

  async keys(): Promise<string[]> {
    return (await this.store.list(`${PREFIX}/`)).objects.map(({ key }) => key);
  }

  /** Copies the logs of everything to a folder that stays. @returns it */
  keepLogs(journal: string): string {
    const folder = mkdtempSync(join(lastingFolder(), "hob-torture-logs-"));
    const { home } = this.daemon;
    for (const path of globSync(join(home, "sprites/*/console.log"))) {
      mkdirSync(join(folder, basename(join(path, ".."))));
      copyFileSync(path, join(folder, basename(join(path, "..")), "console.log"));
    }
    for (const path of [...globSync(join(home, "hobd.log*")), ...this.gateway.logs]) {
      if (existsSync(path)) copyFileSync(path, join(folder, basename(path)));
    }
    writeFileSync(join(folder, "hob-serve.stderr"), this.daemon.stderr);
    writeFileSync(join(folder, "steps.log"), journal);
    return folder;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.faults.close();
    try {
      await this.gateway.startAgain();
    } finally {
      await this.#undo[Symbol.asyncDispose]();
    }
  }
}
