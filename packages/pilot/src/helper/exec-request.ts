import { HobError } from "@hob/protocol";
import { encodeFrame, ItemWriter } from "./frames.ts";
import { HELPER_LIMITS, REQUEST, TAG } from "./wire.ts";

/** Where a process is started: beside the PID 1 of the inner container. */
export interface ExecTarget {
  /** process id, in the root namespace, of the container's PID 1 */
  readonly initPid: number;
  /** directory of the container's cgroup (version 2) in the root namespace; empty = stay in the helper's */
  readonly cgroupDir: string;
  /** array of `struct sock_filter` as crun stores it; empty = no filter */
  readonly seccompFile: string;
  /** for everything that enters there, whatever the request says; default false */
  readonly noNewPrivs?: boolean;
  /** capabilities that may be gained by execve, a mask as in capabilities(7); absent = all */
  readonly boundingSet?: bigint | undefined;
}

export interface ExecSpec {
  /** argv[0] first; at least one */
  readonly argv: readonly string[];
  /** executable; names without a slash are looked up in the PATH of `env`. Default: argv[0] */
  readonly file?: string;
  /** the whole environment */
  readonly env: Readonly<Record<string, string>>;
  /** absolute */
  readonly cwd: string;
  readonly uid: number;
  readonly gid: number;
  /** supplementary groups are those of this name in the container's /etc/group; absent = none */
  readonly user?: string;
  /** absent = pipes instead of a terminal */
  readonly tty?: WindowSize;
  /** absent = the helper's own namespaces */
  readonly target?: ExecTarget;
  /** default false: set-user-ID programs such as sudo work */
  readonly noNewPrivs?: boolean;
}

export interface WindowSize {
  /** 1 to 65535 */
  readonly cols: number;
  /** 1 to 65535 */
  readonly rows: number;
}

export function encodeWindowSize({ cols, rows }: WindowSize): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt16LE(cols, 0);
  bytes.writeUInt16LE(rows, 2);
  return bytes;
}

/** @throws HobError `invalid_request` if the request cannot be expressed: too many or too long strings, NUL characters */
export function encodeExec(spec: ExecSpec): Buffer {
  const variables = Object.entries(spec.env);
  if (spec.argv.length > HELPER_LIMITS.strings || variables.length > HELPER_LIMITS.strings) {
    throw new HobError("invalid_request", `exec: more than ${HELPER_LIMITS.strings} arguments or environment variables`);
  }
  const items = new ItemWriter();
  for (const argument of spec.argv) items.text(TAG.arg, argument);
  for (const [name, value] of variables) items.text(TAG.env, `${name}=${value}`);
  if (spec.file !== undefined) items.text(TAG.file, spec.file);
  items.text(TAG.cwd, spec.cwd).u32(TAG.uid, spec.uid).u32(TAG.gid, spec.gid);
  if (spec.user !== undefined) items.text(TAG.user, spec.user);
  if (spec.tty !== undefined) items.bytes(TAG.windowSize, encodeWindowSize(spec.tty));
  if (spec.noNewPrivs === true || spec.target?.noNewPrivs === true) items.u8(TAG.noNewPrivs, 1);
  if (spec.target?.boundingSet !== undefined) items.u64(TAG.boundingSet, spec.target.boundingSet);
  if (spec.target !== undefined) {
    items.u32(TAG.targetPid, spec.target.initPid).text(TAG.cgroup, spec.target.cgroupDir).text(TAG.seccomp, spec.target.seccompFile);
  }
  return encodeFrame(REQUEST.exec, items.finish());
}
