/** Lets work pass, except while somebody keeps it closed. */
export class Gate {
  #closed = 0;
  #opened = Promise.withResolvers<void>();

  /** @returns opens it again, as far as the caller goes; it may be called more than once */
  close(): () => void {
    this.#closed++;
    let isClosed = true;
    return () => {
      if (!isClosed) return;
      isClosed = false;
      this.#closed--;
      if (this.#closed > 0) return;
      this.#opened.resolve();
      this.#opened = Promise.withResolvers();
    };
  }

  /** Resolves when nobody keeps it closed. */
  async pass(): Promise<void> {
    while (this.#closed > 0) await this.#opened.promise;
  }
}
