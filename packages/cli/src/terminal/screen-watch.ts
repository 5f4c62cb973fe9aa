/** What switches to the alternate screen, and back: XTerm Control Sequences, DECSET 47, 1047 and 1049. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control sequences begin with one
const SWITCH = /\x1b\[\?(?:[0-9;]*;)?(?:47|1047|1049)(?:;[0-9;]*)?([hl])/g;
/** Longest part of such a sequence that may wait for the rest of it. */
const REST_MAX = 32;

/** Knows from a terminal's output whether a full-screen program has the screen. */
export class ScreenWatch {
  #rest = "";
  isFullScreen = false;

  see(chunk: Buffer): void {
    const text = this.#rest + chunk.toString("latin1");
    for (const [, letter] of text.matchAll(SWITCH)) this.isFullScreen = letter === "h";
    const start = text.lastIndexOf("\x1b");
    this.#rest = start >= 0 && text.length - start < REST_MAX ? text.slice(start) : "";
  }
}
