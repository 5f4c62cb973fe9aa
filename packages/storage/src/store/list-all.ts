import type { CallOptions, ListedObject, ObjectStore } from "./object-store.ts";

/** Every object below a prefix, page by page. */
export async function* listAll(store: ObjectStore, prefix: string, options: CallOptions = {}): AsyncGenerator<ListedObject> {
  let after: string | undefined;
  do {
    const page = await store.list(prefix, { ...options, ...(after === undefined ? {} : { after }) });
    yield* page.objects;
    after = page.next;
  } while (after !== undefined);
}
