import type { TreeDifference } from "@hob/protocol";
import { ID_MAP } from "../container/ids.ts";
import type { AttributeDifference } from "../helper/index.ts";

/** linux/capability.h: revision 3 is revision 2 and the root user of the user namespace that it is for. */
const CAPABILITIES = { name: "security.capability", bytesOf2: 20, bytesOf3: 24, revision2: 0x02000000, revision3: 0x03000000 } as const;
const REVISION_MASK = 0xff000000;
/** linux/posix_acl_xattr.h: u32 version, then u16 tag, u16 permissions, u32 id for each entry. */
const ACCESS_LIST = { prefix: "system.posix_acl_", headerBytes: 4, entryBytes: 8, tagsWithId: [0x02, 0x08] } as const;

/** Attributes as they are seen inside: what names a user there names it here by a shifted id. */
export function presentAttributes(differing: readonly AttributeDifference[]): NonNullable<TreeDifference["attributes"]> {
  const encoded = (name: string, value: Buffer | undefined) => (value === undefined ? null : seenInside(name, value).toString("base64"));
  return differing.map(({ name, before, after }) => ({ name, before: encoded(name, before), after: encoded(name, after) }));
}

function seenInside(name: string, value: Buffer): Buffer {
  if (name === CAPABILITIES.name) return capabilitiesInside(value);
  return name.startsWith(ACCESS_LIST.prefix) ? accessListInside(value) : value;
}

function capabilitiesInside(value: Buffer): Buffer {
  const { bytesOf2, bytesOf3, revision2, revision3 } = CAPABILITIES;
  if (value.length !== bytesOf3 || value.readUInt32LE(bytesOf2) !== ID_MAP.firstId) return value;
  const magic = value.readUInt32LE(0);
  if ((magic & REVISION_MASK) !== revision3) return value;
  const inside = Buffer.from(value.subarray(0, bytesOf2));
  inside.writeUInt32LE(revision2 | (magic & ~REVISION_MASK), 0);
  return inside;
}

function accessListInside(value: Buffer): Buffer {
  const { headerBytes, entryBytes, tagsWithId } = ACCESS_LIST;
  const inside = Buffer.from(value);
  for (let at = headerBytes; at + entryBytes <= inside.length; at += entryBytes) {
    const [tag, id] = [inside.readUInt16LE(at), inside.readUInt32LE(at + 4) - ID_MAP.firstId];
    if (tagsWithId.some((one) => one === tag) && id >= 0 && id < ID_MAP.count) inside.writeUInt32LE(id, at + 4);
  }
  return inside;
}
