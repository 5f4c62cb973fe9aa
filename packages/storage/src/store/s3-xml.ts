import { HobError } from "@hob/protocol";
import type { ListedObject } from "./object-store.ts";

/** The few elements that are read from S3's XML. Names are not nested in themselves, so no tree is needed. */

export interface S3ListAnswer {
  objects: ListedObject[];
  truncated: boolean;
  /** where a truncated list goes on; may be missing */
  continuation?: string;
}

/**
 * An answer of ListObjectsV2 that was asked for with `encoding-type=url`. One without its end is refused: what is not on a
 * list is taken for absent, and what an absent head alone reached is deleted.
 *
 * @throws HobError `store_failed`, `store_unavailable`
 */
export function parseListAnswer(xml: string): S3ListAnswer {
  if (!/<ListBucketResult[\s>]/.test(xml)) throw new HobError("store_failed", "the object store answered a list with something else");
  if (!xml.includes("</ListBucketResult>")) throw new HobError("store_unavailable", "the object store's list ended too early");
  const objects = contentsOf(xml).map((content): ListedObject => {
    const key = decodeKey(element(content, "Key") ?? "");
    const sizeBytes = Number(element(content, "Size"));
    const modifiedAt = new Date(element(content, "LastModified") ?? "");
    if (key === "" || !Number.isSafeInteger(sizeBytes) || Number.isNaN(modifiedAt.getTime()))
      throw new HobError("store_failed", "the object store listed an object without key, size or time");
    return { key, sizeBytes, modifiedAt };
  });
  const truncated = element(xml, "IsTruncated");
  if (truncated !== "true" && truncated !== "false")
    throw new HobError("store_failed", "the object store does not say whether there is more to list");
  const continuation = element(xml, "NextContinuationToken");
  return { objects, truncated: truncated === "true", ...(continuation === undefined ? {} : { continuation }) };
}

/** What is between each `<Contents>` and its end, found in one pass: a pattern would look for the end anew from every beginning. */
function contentsOf(xml: string): string[] {
  return xml
    .split("<Contents>")
    .slice(1)
    .flatMap((part) => {
      const end = part.indexOf("</Contents>");
      return end < 0 ? [] : [part.slice(0, end)];
    });
}

/** Code and message of an error answer, and the region where the bucket is; empty what it does not have. */
export function parseErrorAnswer(xml: string): { code: string; message: string; region: string } {
  return { code: element(xml, "Code") ?? "", message: element(xml, "Message") ?? "", region: element(xml, "Region") ?? "" };
}

function element(xml: string, name: string): string | undefined {
  const found = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml);
  return found?.[1] === undefined ? undefined : unescapeXml(found[1]);
}

const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

const unescapeXml = (text: string): string =>
  text.replaceAll(/&(?:#x([0-9a-fA-F]{1,6})|#([0-9]{1,7})|(\w+));/g, (whole, hex?: string, decimal?: string, name?: string) => {
    if (name !== undefined) return ENTITIES[name] ?? whole;
    const code = hex === undefined ? Number(decimal) : Number.parseInt(hex, 16);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });

/** Keys that are not valid in an URL were not written by Hob; they stay as they are. */
function decodeKey(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    return text;
  }
}
