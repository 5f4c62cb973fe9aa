import type { Logger } from "pino";
import type { DaemonConfig } from "./config.ts";
import type { HttpServer, ListenAddress } from "./http-server.ts";
import { readTlsFiles, type TlsMaterial, tlsWarning, watchTlsFiles } from "./tls-files.ts";

type TlsConfig = NonNullable<DaemonConfig["tls"]>;

export interface TlsListenerParts {
  domain: string;
  log: Logger;
  now: () => number;
}

/** The daemon's server behind TLS, its certificate as new as its files. */
export class TlsListener implements Disposable {
  readonly address: ListenAddress;
  readonly #server: HttpServer;
  readonly #config: TlsConfig;
  readonly #parts: TlsListenerParts;
  readonly #watch: Disposable;

  private constructor(server: HttpServer, config: TlsConfig, address: ListenAddress, parts: TlsListenerParts) {
    this.address = address;
    this.#server = server;
    this.#config = config;
    this.#parts = parts;
    this.#watch = watchTlsFiles(config, () => this.reload());
  }

  /** @throws HobError `invalid_config` | `address_in_use` */
  static async start(server: HttpServer, config: TlsConfig, parts: TlsListenerParts): Promise<TlsListener> {
    const material = readTlsFiles(config);
    warn(material, parts);
    return new TlsListener(server, config, await server.listenTls(config.listen, material), parts);
  }

  /** `https://` with the address as it was given; clients use a name that the certificate has. */
  get url(): string {
    const { host, port } = this.address;
    return `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
  }

  /** Reads the files anew. While one of them is being replaced they may not fit: the certificate before stays then. */
  reload(): void {
    const { log } = this.#parts;
    try {
      const material = readTlsFiles(this.#config);
      this.#server.renewTls(material);
      warn(material, this.#parts);
      log.info("the certificate was read anew");
    } catch (error) {
      log.error({ err: error }, "the certificate cannot be used; the one before stays");
    }
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
  }
}

function warn(material: TlsMaterial, { domain, log, now }: TlsListenerParts): void {
  const warning = tlsWarning(material, domain, now());
  if (warning !== undefined) log.warn(warning);
}
