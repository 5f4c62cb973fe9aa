import type { TreeDifference } from "@hob/protocol/api/history.ts";
import { printable } from "./format.ts";

type AttributeDifference = NonNullable<TreeDifference["attributes"]>[number];

/** Longer values are said by their length. */
const SHOWN_BYTES = 64;

/** One extended attribute that differs, in a line: `user.note: "then" -> none`. */
export const describeAttribute = ({ name, before, after }: AttributeDifference): string =>
  `${printable(name)}: ${describeValue(before)} -> ${describeValue(after)}`;

/** @param encoded base64; null: there is none */
function describeValue(encoded: string | null): string {
  if (encoded === null) return "none";
  const value = Buffer.from(encoded, "base64");
  if (value.length > SHOWN_BYTES) return `${value.length} bytes`;
  const text = value.toString("utf8");
  const isText = Buffer.from(text, "utf8").equals(value) && printable(text) === text;
  return isText ? JSON.stringify(text) : `0x${value.toString("hex")}`;
}
