import { appendFileSync } from "node:fs";
import * as sdk from "@fly/sprites";

const { HOB_SDK_CALLS: file } = process.env;

/**
 * Notes which methods of the SDK the tests of this process call, if `npm test` asks for it: it names a file that all
 * suites add to, and the last one looks at it. The methods do what they did.
 */
if (file !== undefined) {
  const called = new Set<string>();
  for (const [name, exported] of Object.entries(sdk)) {
    if (typeof exported !== "function" || exported.prototype === undefined) continue;
    record(exported.prototype as object, name, called);
    record(exported, name, called);
  }
  process.once("exit", () => appendFileSync(file, [...called, ""].join("\n")));
}

function record(holder: object, name: string, called: Set<string>): void {
  for (const [method, descriptor] of Object.entries(Object.getOwnPropertyDescriptors(holder))) {
    const original: unknown = descriptor.value;
    if (method === "constructor" || method === "prototype" || typeof original !== "function" || !descriptor.writable) continue;
    Object.defineProperty(holder, method, {
      ...descriptor,
      value(this: unknown, ...args: unknown[]): unknown {
        called.add(`${name}.${method}`);
        return Reflect.apply(original, this, args);
      },
    });
  }
}
