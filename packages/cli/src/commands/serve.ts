import type { Daemon, DaemonConfig, DaemonOverrides } from "@hob/hobd";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { formatDuration } from "../output/format.ts";
import { type Register, withExample } from "../program.ts";

interface ServeFlags extends GlobalFlags {
  listen?: string;
  tlsCert?: string;
  tlsKey?: string;
  tlsListen?: string;
  domain?: string;
  maxRunning?: string;
  store?: string;
  idleTimeout?: string;
  coldAfter?: string;
  cacheKeep?: string;
  createRate?: string;
  logSink?: string;
  json?: boolean;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("serve")
    .description("Run the daemon in the foreground; Ctrl+C stops it")
    .option("--listen <host:port>", "address to listen on (default: HOB_LISTEN, else 127.0.0.1:7788)")
    .option("--tls-cert <file>", "certificate, PEM, with its chain; serves API and URLs with TLS too (default: HOB_TLS_CERT)")
    .option("--tls-key <file>", "its private key, PEM (default: HOB_TLS_KEY)")
    .option("--tls-listen <host:port>", "address for TLS (default: HOB_TLS_LISTEN, else port 7443 at the host of --listen)")
    .option("--domain <domain>", "sprites answer at NAME.DOMAIN (default: HOB_DOMAIN, else sprites.localhost)")
    .option("--max-running <n>", "sprites that may run at once (default: HOB_MAX_RUNNING, else as memory allows)")
    .option("--store <store>", "where sprites' data is kept for good: dir:PATH or s3://BUCKET/PREFIX?… (default: HOB_STORE, else the home)")
    .option("--idle-timeout <time>", "time without use after which a sprite sleeps; 0: never (default: HOB_IDLE_TIMEOUT, else 30s)")
    .option("--cold-after <time>", "time after which a sleeping sprite's memory is dropped; 0: never (default: HOB_COLD_AFTER, else 24h)")
    .option("--cache-keep <time>", "time after which images that nobody uses leave the cache; 0: never (default: HOB_CACHE_KEEP, else 14d)")
    .option("--create-rate <n>", "sprites that one token may create a minute; 0: no limit (default: HOB_CREATE_RATE, else 0)")
    .option("--log-sink <sink>", "ship logs of services: file:PATH or otlp+http://HOST:PORT (default: HOB_LOG_SINK, else nowhere)")
    .option("--json", 'when ready, print one line {"url","token"}');
  withExample(command, "hob serve", "hob serve --listen 127.0.0.1:8080 --idle-timeout 5m", "hob serve --json");
  command.action((_flags: ServeFlags, self: Command) => serve(cli, self.optsWithGlobals<ServeFlags>()));
};

async function serve(cli: Cli, flags: ServeFlags): Promise<void> {
  const { loadConfig } = await import("@hob/hobd");
  const { home, listen, domain, maxRunning, idleTimeout, coldAfter, cacheKeep, createRate, store, logSink, tlsCert, tlsKey, tlsListen } =
    flags;
  const config = loadConfig(cli.env, {
    home,
    listen,
    domain,
    maxRunning,
    idleTimeout,
    coldAfter,
    cacheKeep,
    createRate,
    store,
    logSink,
    tlsCert,
    tlsKey,
    tlsListen,
  });
  const { createRuntime } = await import("../runtime.ts");
  await serveInForeground(
    cli,
    config,
    { environment: cli.env, createRuntime: (context) => createRuntime(cli, context) },
    flags.json === true,
  );
}

/** Runs a daemon until a signal has stopped it. */
export async function serveInForeground(cli: Cli, config: DaemonConfig, overrides: DaemonOverrides, json: boolean): Promise<void> {
  const { reloadOnSignal, startDaemon, stopOnSignal } = await import("@hob/hobd");
  const start = performance.now();
  const daemon = await startDaemon(config, overrides);
  const stopped = stopOnSignal(daemon);
  using _ = reloadOnSignal(daemon);
  // The reader of the ready line may go away; the daemon stays.
  cli.onBrokenPipe = undefined;
  const tls = daemon.tlsUrl === undefined ? {} : { tls_url: daemon.tlsUrl };
  if (json) cli.print(JSON.stringify({ url: daemon.url, ...tls, token: daemon.token ?? null }));
  else sayReady(cli, daemon, performance.now() - start);
  await stopped;
  if (!json) cli.note("Stopped.");
}

function sayReady(cli: Cli, daemon: Daemon, tookMs: number): void {
  const { bold, dim, green } = cli.style;
  cli.print(`${green("Hob is ready")} at ${bold(daemon.url)} ${dim(`(${formatDuration(tookMs)})`)}`);
  if (daemon.tlsUrl !== undefined) cli.print(`  tls    ${daemon.tlsUrl}`);
  cli.print(
    `  token  ${daemon.home.token}${daemon.token === undefined ? " (not valid any more: 'hob token create' makes a new one)" : ""}`,
  );
  cli.print(`  log    ${daemon.home.log}`);
  if (daemon.storeProblem !== undefined) {
    cli.print(`${cli.style.yellow("The object store does not answer")}: ${daemon.storeProblem.message}`);
    cli.print("  Sprites that run go on; one that sleeps starts, and new ones are made, when it answers again: it is asked until then.");
  }
  cli.print("Try, in another terminal:");
  cli.print("  hob create web");
  cli.print("  hob console web");
}
