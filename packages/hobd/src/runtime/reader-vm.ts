import { randomBytes, randomUUID } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import type { Identity, StoredHistory } from "@hob/protocol";
import type { Vm } from "../vmm/driver.ts";
import { aliveness, restoreVm } from "./machine.ts";
import { PilotClient } from "./pilot-client.ts";
import type { MachineSpec, PilotEndpoint, Reader } from "./sprite-runtime.ts";
import type { VmRuntimeParts } from "./vm-runtime.ts";

const RESUME_TIMEOUT_MS = 15_000;

type ReaderParts = Pick<VmRuntimeParts, "paths" | "factory" | "templates" | "links" | "log">;

/**
 * Forks a VM that shows what the object store has of a sprite: a clone of a template, whose container is the empty one of the
 * template, with a way to the store that is for reading only. It has a token of its own, none of the sprite's variables, and files
 * beside the sprites': like those of a sprite that no row names, a later daemon removes them.
 */
export async function startReader(parts: ReaderParts, sprite: Identity, machine: MachineSpec, history: StoredHistory): Promise<Reader> {
  const { paths, factory, templates, links, log } = parts;
  const template = await templates.ensure(machine);
  const start = randomUUID();
  const files = paths.sprite(`reader-${start}`);
  await using undo = new AsyncDisposableStack();
  undo.defer(async () => {
    await rm(files.directory, { recursive: true, force: true });
    await rm(files.run, { recursive: true, force: true });
  });
  const began = performance.now();
  await mkdir(files.directory, { recursive: true, mode: 0o700 });
  await templates.clone(template, files);
  // Its kernel mounts what users wrote. Should that break it, it still reaches nothing but the store, by way of the host.
  const vm = await restoreVm(factory, files, machine, true);
  undo.defer(() => vm.kill());
  const { policies: _, ...known } = sprite;
  const identity: Identity = { ...known, pilotToken: randomBytes(32).toString("hex"), environment: {} };
  const endpoint: PilotEndpoint = { host: "127.0.0.1", port: vm.pilotPort, token: identity.pilotToken };
  const pilot = new PilotClient(vm.pilotPort, template.pilotToken);
  await pilot.resumed(identity, { start, history }, RESUME_TIMEOUT_MS, aliveness(vm));
  undo.use(links.show(sprite.id, start, () => endpoint));
  log.info({ id: sprite.id, reader: start, ms: Math.round(performance.now() - began) }, "a reader shows the sprite's history");
  return asReader(endpoint, vm, undo.move());
}

function asReader(endpoint: PilotEndpoint, vm: Vm, files: AsyncDisposableStack): Reader {
  let closed: Promise<void> | undefined;
  return { endpoint, exited: vm.exited.catch(() => {}), close: () => (closed ??= files.disposeAsync()) };
}
