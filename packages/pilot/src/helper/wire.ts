/**
 * Numbers of the helper's protocol, `docs/formats/helper-protocol.md`. The same ones stand in `native/hob.h`.
 */
export const REQUEST = {
  exec: 1,
  entropy: 2,
  setTime: 3,
  sync: 4,
  freeze: 5,
  thaw: 6,
  idmapMount: 7,
  network: 8,
  killCgroup: 9,
  deviceMapper: 10,
  unmount: 15,
  moveMount: 16,
  sockets: 12,
} as const;

export const CLIENT_FRAME = { stdin: 32, stdinEof: 33, resize: 34, signal: 35, release: 36 } as const;

export const SERVER_FRAME = { ok: 64, error: 65, started: 66, stdout: 67, stderr: 68, exit: 69, window: 70, listeners: 100 } as const;

export const TAG = {
  arg: 1,
  env: 2,
  cwd: 3,
  uid: 4,
  gid: 5,
  user: 6,
  windowSize: 7,
  targetPid: 8,
  cgroup: 9,
  seccomp: 10,
  noNewPrivs: 11,
  file: 12,
  bytes: 20,
  unixMs: 21,
  path: 22,
  timeoutMs: 23,
  fsType: 30,
  source: 31,
  option: 32,
  attribute: 33,
  userNamespace: 34,
  idBase: 35,
  idCount: 36,
  outerName: 40,
  innerName: 41,
  mtu: 42,
  outerAddress: 43,
  innerAddress: 44,
  gateway: 45,
  dmOp: 50,
  dmName: 51,
  dmTarget: 52,
  dmMessage: 53,
  dmFlags: 54,
  dmOrigin: 55,
  lazy: 56,
  intervalMs: 100,
  endpoint: 101,
} as const;

/** Bytes unless the name says otherwise. */
export const HELPER_LIMITS = {
  /** payload of a request frame */
  requestBytes: 1024 * 1024,
  /** payload of every other frame, both ways */
  frameBytes: 64 * 1024,
  /** standard input that may be under way unconsumed */
  stdinWindowBytes: 256 * 1024,
  /** arguments, and as many environment variables, of one exec */
  strings: 8192,
  entropyBytes: 4096,
  /** addresses that one connect tries */
  endpoints: 16,
} as const;

/** Bit of the second byte of EXIT: the process died because its container ended. */
export const EXIT_FLAG_CONTAINER_GONE = 1;

export const FRAME_HEADER_BYTES = 5;
