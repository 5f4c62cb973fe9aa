const GAP = "  ";

/**
 * Plain columns, left-aligned, without borders: easy to read and to cut(1).
 * @param paint colours a padded cell; what it adds takes no width
 */
export function renderTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  paint = (cell: string, _column: number, _row: number) => cell,
): string {
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const renderRow = (cells: readonly string[], rowIndex: number): string =>
    cells.map((cell, column) => paint(column === cells.length - 1 ? cell : cell.padEnd(widths[column] ?? 0), column, rowIndex)).join(GAP);
  return [renderRow(header, -1), ...rows.map(renderRow)].join("\n");
}
