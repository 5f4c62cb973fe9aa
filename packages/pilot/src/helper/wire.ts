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
  nbd: 13,
  files: 11,
  sockets: 12,
  compare: 17,
} as const;

export const CLIENT_FRAME = {
  stdin: 32,
  stdinEof: 33,
  resize: 34,
  signal: 35,
  release: 36,
  end: 37,
  changes: 38,
  content: 39,
  attributes: 40,
} as const;

export const SERVER_FRAME = {
  ok: 64,
  error: 65,
  started: 66,
  stdout: 67,
  stderr: 68,
  exit: 69,
  window: 70,
  fileInfo: 80,
  entries: 81,
  done: 82,
  events: 83,
  fileError: 84,
  listeners: 100,
  progress: 110,
  attribute: 111,
} as const;

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
  dmRange: 57,
  nbdAction: 110,
  nbdIndex: 111,
  nbdSize: 112,
  nbdSocket: 113,
  operation: 70,
  destination: 71,
  offset: 72,
  length: 73,
  suffix: 74,
  mode: 75,
  fileFlags: 76,
  pattern: 77,
  owner: 78,
  group: 79,
  rootDirectory: 80,
  intervalMs: 100,
  endpoint: 101,
  boundingSet: 140,
} as const;

/** Values of `TAG.operation`. */
export const FILE_OPERATION = {
  read: 1,
  write: 2,
  list: 3,
  delete: 4,
  rename: 5,
  copy: 6,
  chmod: 7,
  chown: 8,
  mkdir: 9,
  symlink: 10,
  watch: 11,
  install: 12,
} as const;

/** Bits of `TAG.fileFlags`. */
export const FILE_FLAG = { recursive: 1, parents: 2, parent: 4, preserve: 8, itself: 16, infoOnly: 32, archive: 64, noLinks: 128 } as const;

/** Bits of `TAG.fileFlags` of a pair to compare. */
export const COMPARE_FLAG = { onDevices: 1 } as const;

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
