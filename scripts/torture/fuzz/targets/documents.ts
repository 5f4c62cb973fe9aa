/** Bodies and messages of JSON: requests of all routes, frames of WebSockets, files of settings, what a pilot sends. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import {
  fileWatchRequest,
  logsPullResponse,
  networkPolicy,
  pilotActivity,
  prepareSleepResponse,
  proxyRequest,
  relayList,
  resumedRequest,
  storageAssignment,
} from "@hob/protocol";
import type { z } from "zod";
import { readDaemonRecord, readKeptSettings } from "../../../../packages/cli/src/config.ts";
import { findSpriteFile } from "../../../../packages/cli/src/sprite-file.ts";
import { parseTextFrame as parseClientFrame } from "../../../../packages/client/src/frames.ts";
import { loadConfig } from "../../../../packages/hobd/src/daemon/config.ts";
import { parseTextFrame } from "../../../../packages/pilot/src/exec/websocket-client.ts";
import { API_ROUTES } from "../../../../packages/protocol/src/api/index.ts";
import { mutatedJson, mutatedText } from "../mutate.ts";
import { ensure, type Target, target } from "../target.ts";
import { parsed } from "../verdict.ts";

const BODIES: readonly unknown[] = [
  {
    name: "box",
    config: { ram_mb: 1024, cpus: 2, storage_gb: 10, region: "x" },
    environment: { A: "1" },
    labels: ["a"],
    wait_for_capacity: true,
  },
  { url_settings: { auth: "public", private_access: "admins" }, labels: [], clear_labels: true, idle_timeout_seconds: 60 },
  { rules: [{ domain: "example.com", action: "allow" }, { domain: "*.example.org", action: "deny" }, { include: "defaults" }] },
  { profile: "minimal", devices: ["/dev/fuse"], noNewPrivileges: true },
  { memory: { limit_mb: 512, autoscale: false }, cpu: { limit: 1.5 } },
  { cmd: "sleep", args: ["1"], env: { A: "1" }, dir: "/tmp", user: "root", needs: ["db"], http_port: 8080 },
  { name: "task", expire: "10m" },
  { path: "/tmp/a", mode: "0755", recursive: true, asRoot: false, uid: 1000, gid: "sprite", source: "/a", dest: "/b", target: "c" },
  { signal: "TERM", timeout: "10s", comment: "before", from: "v1", to: "v2", paths: ["/etc"] },
];

const requestBodies = target<{ index: number; value: unknown }>(
  { name: "request-bodies", summary: "the JSON body of every described route, by its schema", weight: 3 },
  () => {
    const schemas = API_ROUTES.flatMap(({ body }) => (body !== undefined && "json" in body ? [body.json] : []));
    return {
      input: (random) => ({ index: random.below(schemas.length), value: mutatedJson(random, random.pick(BODIES)) }),
      run: ({ index, value }) => readTwice(schemas[index] as z.ZodType, value),
    };
  },
);

/** What a schema has accepted it accepts again, and to the same end: nothing is unescaped, resolved or rounded twice. */
function readTwice(schema: z.ZodType, value: unknown): "accepted" | "refused" {
  const first = schema.safeParse(value);
  if (!first.success) return "refused";
  ensure(isDeepStrictEqual(schema.parse(value), first.data), () => "read twice, it means two things");
  return "accepted";
}

const HASH = "a".repeat(64);
const IDENTITY = {
  id: "s1",
  name: "box",
  organization: "hob",
  url: "http://box.sprites.localhost",
  machineId: "0".repeat(32),
  pilotToken: "t".repeat(32),
  environment: { A: "1" },
};
const PRIVATE: readonly [z.ZodType, unknown][] = [
  [pilotActivity, { holders: [{ kind: "exec", label: "bash", since: 1 }], idleMs: 5 }],
  [prepareSleepResponse, { holders: [], idleMs: 5, ready: true }],
  [
    logsPullResponse,
    { blocks: [{ service: "web", stream: "stdout", timeMs: 1, text: "a\n" }], cursor: { web: { segment: "1.2", offset: 3 } } },
  ],
  [relayList, { objects: [{ key: "a/b", sizeBytes: 1, modifiedMs: 2 }], next: "c" }],
  [resumedRequest, { entropy: "A".repeat(44), wallclockMs: 1, identity: IDENTITY, hostAddresses: ["10.0.0.1"] }],
  [storageAssignment, { organization: "o", spriteId: "s", owner: "h", epoch: 1, base: { root: HASH, volumeBytes: 65_536 } }],
  [proxyRequest, { host: "localhost", port: 80, half_close: true }],
  [fileWatchRequest, { type: "subscribe", paths: ["/tmp"], recursive: true, workingDir: "/" }],
  [networkPolicy, { rules: [{ domain: "a.b", action: "allow" }] }],
];

const privateMessages = target<{ index: number; value: unknown }>(
  { name: "private-messages", summary: "messages between pilot and daemon, and first frames of WebSockets, by their schemas", weight: 2 },
  () => ({
    input: (random) => {
      const index = random.below(PRIVATE.length);
      return { index, value: mutatedJson(random, PRIVATE[index]?.[1]) };
    },
    run: ({ index, value }) => readTwice((PRIVATE[index] as (typeof PRIVATE)[number])[0], value),
  }),
);

const FRAMES = [
  '{"type":"resize","cols":80,"rows":24}',
  '{"type":"signal","signal":"TERM"}',
  '{"type":"session_info","session_id":"1","command":"bash","created":1,"cols":0,"rows":0,"is_owner":true,"tty":false}',
  '{"type":"exit","exit_code":3,"code":3}',
];

const textFrames = target<string>({ name: "text-frames", summary: "text frames of exec, at the pilot and at a client", weight: 2 }, () => ({
  input: (random) => mutatedText(random, FRAMES),
  run: (text) => {
    const [server, client] = [parseTextFrame(text), parseClientFrame(text)];
    if (server?.type === "resize") ensure(server.cols >= 1 && server.rows <= 65_535, () => `a window of ${server.cols} × ${server.rows}`);
    if (client?.type === "exit") ensure(client.exit_code >= 0 && client.exit_code <= 255, () => `an exit status of ${client.exit_code}`);
    return server === undefined && client === undefined ? "refused" : "accepted";
  },
}));

const SETTINGS_FILES = {
  ".hob": ['{"sprite":"box"}\n'],
  "config.json": ['{"url":"http://127.0.0.1:7788","token":"hob/x/y"}'],
  "hobd.json": ['{"pid":17,"url":"http://127.0.0.1:7788","version":"0.1.0"}'],
} as const;

const settingsFiles = target<{ name: keyof typeof SETTINGS_FILES; text: string }>(
  { name: "settings-files", summary: "files that the command line reads: .hob, config.json, hobd.json", weight: 1 },
  () => {
    const directory = mkdtempSync(join(tmpdir(), "hob-fuzz-"));
    const read = { ".hob": findSpriteFile, "config.json": readKeptSettings, "hobd.json": readDaemonRecord };
    return {
      input: (random) => {
        const name = random.pick(Object.keys(SETTINGS_FILES) as (keyof typeof SETTINGS_FILES)[]);
        return { name, text: mutatedText(random, SETTINGS_FILES[name]) };
      },
      run: ({ name, text }) => {
        writeFileSync(join(directory, name), text);
        return parsed(() => read[name](directory));
      },
      [Symbol.asyncDispose]: async () => rmSync(directory, { recursive: true, force: true }),
    };
  },
);

const SETTINGS = {
  HOB_LISTEN: ["127.0.0.1:7788", "[::1]:0", ":80"],
  HOB_DOMAIN: ["sprites.localhost"],
  HOB_IDLE_TIMEOUT: ["30s", "0", "1.5m"],
  HOB_STORE: ["dir:/srv/store", "s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1"],
  HOB_LOG_SINK: ["file:/var/log/hob", "otlp:http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/logs"],
  HOB_MAX_RUNNING: ["10"],
  HOB_CREATE_RATE: ["10/min"],
} as const;

const settings = target<Record<string, string>>(
  { name: "daemon-settings", summary: "the daemon's settings, from its environment", weight: 1 },
  () => ({
    input: (random) => {
      const all = Object.entries(SETTINGS).map(([name, values]) => [name, random.chance(0.3) ? mutatedText(random, values) : values[0]]);
      return { HOB_HOME: "/srv/hob", ...(Object.fromEntries(all) as Record<string, string>) };
    },
    run: (env) => parsed(() => loadConfig(env)),
  }),
);

export const documentTargets: readonly Target[] = [requestBodies, privateMessages, textFrames, settingsFiles, settings];
