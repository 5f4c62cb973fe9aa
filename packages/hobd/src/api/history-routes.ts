import type { Readable } from "node:stream";
import { diskLayout, forkRequest, gcRequest, HobError, MACHINE_LIMITS, PILOT_ROUTES, type RepairRequest, spriteName } from "@hob/protocol";
import { collectGarbage, type Damage, type ExportHeader, exportSprite, forkSprite, fsck, fsckAndRepair, importSprite } from "@hob/storage";
import type { Hono } from "hono";
import type { PilotRequester } from "../front-door/pilot-locator.ts";
import { exportedPolicies } from "../object-store/catalogue.ts";
import type { SpriteStorage } from "../object-store/sprite-storage.ts";
import type { SpriteRecord } from "../registry/registry.ts";
import { ClientGone } from "./client-gone.ts";
import type { Brought, SpriteCreator } from "./create-sprite.ts";
import { readJsonBody } from "./json-body.ts";
import { presentSprite } from "./present.ts";
import { clientGone, type Env, methodNotAllowed } from "./routes.ts";
import { refuseShortGrace } from "./short-grace.ts";
import { requireSprite, type SpriteContext } from "./sprite-context.ts";
import { answerWithStream } from "./stream-answer.ts";

export interface HistoryParts {
  context: SpriteContext;
  creator: SpriteCreator;
  storage: SpriteStorage;
  pilot: PilotRequester;
}

/** What is done with the storage of sprites as a whole: forks, exports, imports, and its upkeep. `docs/api/storage.md` */
export function addHistory(app: Hono<Env>, parts: HistoryParts): void {
  const { context, storage } = parts;
  const { store, organization: org } = storage;
  addFork(app, parts);
  addExport(app, parts);
  addImport(app, parts);
  app.post("/v1/sprites/:name/fsck", async (c) => {
    const record = await requireSprite(context.sprites, c.req.param("name"));
    const isToRepair = wantsRepair(c.req.query("repair"));
    const signal = clientGone(c);
    const options = { store, org, sprites: [record.id], signal };
    const mend = (damage: readonly Damage[]) => repair(parts.pilot, record, damage, signal);
    return c.json(isToRepair ? await fsckAndRepair(options, mend) : await fsck(options));
  });
  app.all("/v1/sprites/:name/fsck", methodNotAllowed("POST"));
  app.post("/v1/storage/fsck", async (c) => c.json(await fsck({ store, org, signal: clientGone(c) })));
  app.all("/v1/storage/fsck", methodNotAllowed("POST"));
  app.post("/v1/storage/gc", async (c) => {
    const { grace_seconds, dry_run } = await readJsonBody(c.env.incoming, gcRequest, "collect garbage");
    const graceMs = grace_seconds === undefined || grace_seconds === null ? undefined : grace_seconds * 1_000;
    const permit = dry_run === true ? undefined : () => refuseShortGrace(context, graceMs);
    const options = { graceMs, permit, dryRun: dry_run === true, signal: clientGone(c) };
    const report = await collectGarbage({ store, org, ...options });
    const names = new Map(await Promise.all(report.holders.map(async ({ sprite }) => [sprite, await nameOf(context, sprite)] as const)));
    return c.json({ ...report, holders: report.holders.map((holder) => ({ ...holder, name: names.get(holder.sprite) ?? null })) });
  });
  app.all("/v1/storage/gc", methodNotAllowed("POST"));
}

async function nameOf({ sprites }: SpriteContext, id: string): Promise<string | undefined> {
  const record = await sprites.findById(id);
  return record?.state === "ready" ? record.name : undefined;
}

function wantsRepair(text: string | undefined): boolean {
  if (text === undefined || text === "false") return false;
  if (text === "true") return true;
  throw new HobError("invalid_request", "check sprite: parameter repair: true or false expected");
}

/** The pilot brings back what the machine that it runs on still has: it knows the volume, and it alone writes the head. */
async function repair(pilot: PilotRequester, record: SpriteRecord, damage: readonly Damage[], signal: AbortSignal): Promise<void> {
  const request: RepairRequest = { damage: damage.map(({ checkpoint, blocks }) => ({ checkpoint, blocks })) };
  const { status, refusal } = await pilot(record, PILOT_ROUTES.repair, signal, "POST", request);
  if (status === 204) return;
  if (refusal !== undefined && status !== 404) throw refusal;
  const hint = status === 404 ? "the sprite runs on an older version: restart it" : "the reason is in the sprite's console.log";
  throw new HobError("pilot_unreachable", `repair what the object store has of sprite ${record.name}: its pilot answered ${status}`, {
    hint,
  });
}

/** A new sprite with a new identity over the same chunks: its size does not matter. It begins with the policies of its source. */
function addFork(app: Hono<Env>, { context, creator, storage, pilot }: HistoryParts): void {
  app.post("/v1/sprites/:name/fork", async (c) => {
    const source = await requireSprite(context.sprites, c.req.param("name"));
    const { name, checkpoint } = await readJsonBody(c.env.incoming, forkRequest, "fork sprite");
    // Before the source is brought into the store, which may take long.
    await creator.requireFree(name);
    await makeDurable(pilot, storage, source, checkpoint ?? undefined, clientGone(c));
    const fork = async ({ id }: SpriteRecord) => {
      const { store, organization: org, owner } = storage;
      await forkSprite({ store, org, owner, sprite: id, source: source.id, ...(checkpoint == null ? {} : { checkpoint }) });
      return {};
    };
    // Bringing the source into the store may have taken long: those that it has now count.
    const { machine, environment, labels, policies } = await requireSprite(context.sprites, source.name);
    const config = { cpus: machine.cpus, ram_mb: machine.ramMb, storage_gb: machine.storageGb };
    const record = await creator.create({ name, config, environment, labels }, { tokenId: c.get("tokenId"), storage: fork, policies });
    return c.json(presentSprite(record, context.runtime.status(record.id), context.urlOf), 201);
  });
  app.all("/v1/sprites/:name/fork", methodNotAllowed("POST"));
}

/** A checkpoint that the store has needs nothing of the sprite; everything else has to be brought there first. */
async function makeDurable(
  pilot: PilotRequester,
  storage: SpriteStorage,
  source: SpriteRecord,
  checkpoint: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  if (checkpoint !== undefined && (await storage.hasCheckpoint(source.id, checkpoint))) return;
  const { status, refusal } = await pilot(source, `/v1/sprites/${source.name}/sync`, signal, "POST");
  if (status !== 200) {
    const { code = "store_unavailable", message = `its pilot answered ${status}`, hint } = refusal ?? {};
    throw new HobError(code, `bring sprite ${source.name} into the object store: ${message}`, hint === undefined ? {} : { hint });
  }
  if (checkpoint === undefined || (await storage.hasCheckpoint(source.id, checkpoint))) return;
  throw new HobError("not_found", `fork sprite ${source.name}: it has no checkpoint ${checkpoint.slice(0, 80)}`);
}

function addExport(app: Hono<Env>, { context, storage, pilot }: HistoryParts): void {
  app.get("/v1/sprites/:name/export", async (c) => {
    const record = await requireSprite(context.sprites, c.req.param("name"));
    await makeDurable(pilot, storage, record, undefined, clientGone(c));
    // It goes into the file, with the policies of now.
    await context.catalogue.describe(await requireSprite(context.sprites, record.name));
    const { store, organization: org } = storage;
    const bytes = (gone: AbortSignal) => exportSprite({ store, org, sprite: record.id, signal: gone });
    return await answerWithStream(c, bytes, { contentType: "application/vnd.hob.export", waitsForFirst: true, log: context.log });
  });
  app.all("/v1/sprites/:name/export", methodNotAllowed("GET, HEAD"));
}

/** The chunks of a stream that outlives whoever stops reading it. */
async function* unowned(stream: Readable): AsyncGenerator<Buffer> {
  yield* stream.iterator({ destroyOnReturn: false });
}

/** GiB of the volume in an export: that of the new sprite, which cannot be of another size. @throws HobError `invalid_request` */
function exportedSize(volumeBytes: number, wantedGb: string | undefined): number {
  const { min, max } = MACHINE_LIMITS.storageGb;
  const found = Array.from({ length: max - min + 1 }, (_, index) => min + index).find((gb) => diskLayout(gb).volumeBytes === volumeBytes);
  if (found === undefined)
    throw new HobError("invalid_request", `import sprite: its disk of ${volumeBytes} bytes has no size that sprites have`);
  if (wantedGb === undefined || wantedGb === String(found)) return found;
  throw new HobError("invalid_request", `import sprite: the disk in the file has ${found} GB, and storage_gb asks for another size`, {
    hint: "leave the size out",
  });
}

/** A new sprite with the history in the file, and with the policies in it from its first moment on. */
function addImport(app: Hono<Env>, { context, creator, storage }: HistoryParts): void {
  app.post("/v1/storage/import", async (c) => {
    const name = spriteName.safeParse(c.req.query("name") ?? "");
    if (!name.success) throw new HobError("invalid_name", "import sprite: parameter name: 1 to 63 characters a-z, 0-9 and '-' expected");
    const wantedGb = c.req.query("storage_gb");
    const { store, organization: org, owner } = storage;
    const load = async ({ id }: SpriteRecord) => {
      const source = c.env.incoming;
      const brought: Brought = {};
      const onHeader = ({ sprite, head }: ExportHeader) => {
        Object.assign(brought, { policies: exportedPolicies(sprite), storageGb: exportedSize(head.volumeBytes, wantedGb) });
      };
      try {
        await importSprite({ store, org, owner, sprite: id, source: unowned(source), onHeader, signal: clientGone(c) });
        return brought;
      } catch (error) {
        throw source.destroyed && !source.complete ? new ClientGone(error) : error;
      } finally {
        // A client hears why its file was refused when it has been allowed to send all of it.
        source.resume();
      }
    };
    const record = await creator.create({ name: name.data }, { tokenId: c.get("tokenId"), storage: load });
    return c.json(presentSprite(record, context.runtime.status(record.id), context.urlOf), 201);
  });
  app.all("/v1/storage/import", methodNotAllowed("POST"));
}
