/** N of a checkpoint `vN`; undefined for other names. */
export const numberOf = (id: string): number | undefined => matched(/^v([1-9][0-9]{0,14})$/, id);

/** N of a checkpoint `auto-N`; undefined for other names. */
export const automaticNumberOf = (id: string): number | undefined => matched(/^auto-([1-9][0-9]{0,14})$/, id);

function matched(pattern: RegExp, id: string): number | undefined {
  const digits = pattern.exec(id)?.[1];
  return digits === undefined ? undefined : Number(digits);
}
