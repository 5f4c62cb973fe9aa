import { Transform, type TransformCallback } from "node:stream";

/** Ctrl+\, as the official CLI has it. */
const DETACH_KEY = 0x1c;

/** Passes keys on until the one that leaves the session; what follows it is nobody's. */
export class DetachKey extends Transform {
  readonly #onPressed: () => void;
  #isPressed = false;

  constructor(onPressed: () => void) {
    super();
    this.#onPressed = onPressed;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    if (this.#isPressed) return void done();
    const at = chunk.indexOf(DETACH_KEY);
    if (at < 0) return void done(null, chunk);
    this.#isPressed = true;
    if (at > 0) this.push(chunk.subarray(0, at));
    done();
    this.#onPressed();
  }
}
