import { encodeFrame, ItemWriter } from "./frames.ts";
import { REQUEST, TAG } from "./wire.ts";

export interface MountSpec {
  /** file system type, or `bind` for a clone of the mount at `source` */
  readonly fsType: string;
  /** block device, or a path for `bind` */
  readonly source: string;
  /** existing directory */
  readonly target: string;
  /** `name` or `name=value`, of the file system */
  readonly options?: readonly string[];
  /** for the whole of it; default 15 000. A device that reads from elsewhere may take longer */
  readonly timeoutMs?: number;
  readonly attributes?: readonly ("ro" | "nosuid" | "nodev" | "noexec" | "noatime" | "nosymfollow")[];
  /** ids of the file system 0..count-1 appear as base..base+count-1; or those of an existing user namespace */
  readonly idmap?: { readonly base: number; readonly count: number } | { readonly userNamespace: string };
}

export interface NetworkSpec {
  readonly outer: { readonly name: string; readonly addresses: readonly string[] };
  readonly inner: { readonly name: string; readonly addresses: readonly string[] };
  /** a process in the inner network namespace, by its id in the root namespace */
  readonly innerPid: number;
  /** default routes of the inner side, at most one for each of IPv4 and IPv6 */
  readonly gateways: readonly string[];
  /** bytes, 1280 to 65535; default 1500 */
  readonly mtu?: number;
}

export const encodeEntropy = (bytes: Uint8Array): Buffer => encodeFrame(REQUEST.entropy, new ItemWriter().bytes(TAG.bytes, bytes).finish());

export const encodeSetTime = (unixMs: number): Buffer => encodeFrame(REQUEST.setTime, new ItemWriter().u64(TAG.unixMs, unixMs).finish());

export const encodeSync = (): Buffer => encodeFrame(REQUEST.sync);

export function encodePathRequest(type: number, path: string, timeoutMs?: number): Buffer {
  const items = new ItemWriter().text(TAG.path, path);
  if (timeoutMs !== undefined) items.u32(TAG.timeoutMs, timeoutMs);
  return encodeFrame(type, items.finish());
}

export const encodeUnmount = (path: string, lazy: boolean): Buffer =>
  encodeFrame(
    REQUEST.unmount,
    new ItemWriter()
      .text(TAG.path, path)
      .u32(TAG.lazy, lazy ? 1 : 0)
      .finish(),
  );

export const encodeMoveMount = (from: string, to: string): Buffer =>
  encodeFrame(REQUEST.moveMount, new ItemWriter().text(TAG.source, from).text(TAG.path, to).finish());

export function encodeMount(spec: MountSpec): Buffer {
  const items = new ItemWriter().text(TAG.fsType, spec.fsType).text(TAG.source, spec.source).text(TAG.path, spec.target);
  for (const option of spec.options ?? []) items.text(TAG.option, option);
  for (const attribute of spec.attributes ?? []) items.text(TAG.attribute, attribute);
  if (spec.idmap !== undefined) {
    if ("userNamespace" in spec.idmap) items.text(TAG.userNamespace, spec.idmap.userNamespace);
    else items.u32(TAG.idBase, spec.idmap.base).u32(TAG.idCount, spec.idmap.count);
  }
  return encodeFrame(REQUEST.idmapMount, items.finish());
}

export function encodeNetwork(spec: NetworkSpec): Buffer {
  const items = new ItemWriter()
    .text(TAG.outerName, spec.outer.name)
    .text(TAG.innerName, spec.inner.name)
    .u32(TAG.targetPid, spec.innerPid);
  if (spec.mtu !== undefined) items.u32(TAG.mtu, spec.mtu);
  for (const address of spec.outer.addresses) items.text(TAG.outerAddress, address);
  for (const address of spec.inner.addresses) items.text(TAG.innerAddress, address);
  for (const gateway of spec.gateways) items.text(TAG.gateway, gateway);
  return encodeFrame(REQUEST.network, items.finish());
}

/** What is done with a network block device of the kernel, nbd(4). */
export type NbdAction =
  | { readonly kind: "connect"; readonly socket: string /** a multiple of 512 */; readonly sizeBytes: number }
  /** another server for a device that was connected before */
  | { readonly kind: "reconnect"; readonly socket: string }
  | { readonly kind: "disconnect" };

const NBD_ACTION = { connect: 0, reconnect: 1, disconnect: 2 } as const;

export function encodeNbd(index: number, action: NbdAction): Buffer {
  const items = new ItemWriter().u32(TAG.nbdAction, NBD_ACTION[action.kind]).u32(TAG.nbdIndex, index);
  if (action.kind !== "disconnect") items.text(TAG.nbdSocket, action.socket);
  if (action.kind === "connect") items.u64(TAG.nbdSize, action.sizeBytes);
  return encodeFrame(REQUEST.nbd, items.finish());
}
