import { HobError } from "@hob/protocol";
import type { SpriteRecord } from "../registry/registry.ts";
import type { SpriteContext } from "./sprite-context.ts";

/** Uploads take minutes, and may name again what they have found within an hour. Milliseconds. */
const GRACE_MS_MIN = 2 * 60 * 60 * 1_000;

/**
 * What an upload under way has brought there is reached by nothing yet: removed by `gc`, it would be missing when the head names it.
 *
 * @param graceMs undefined: that of `gc`, which is longer than any upload
 * @throws HobError `conflict` when the grace is shorter than an upload may take, and a sprite of this daemon may be uploading
 */
export async function refuseShortGrace({ sprites, runtime }: SpriteContext, graceMs: number | undefined): Promise<void> {
  if (graceMs === undefined || graceMs >= GRACE_MS_MIN) return;
  const ready = await sprites.listByState("ready");
  const running = ready.filter(({ id }) => runtime.status(id) === "running");
  // An import has no VM before all of it is in the store.
  const creating = await sprites.listByState("creating");
  const [first, ...others] = [...running, ...creating, ...(await asleepWhileUploading(ready, runtime))];
  if (first === undefined) return;
  const of = others.length === 0 ? first.name : `${first.name} and ${others.length} more`;
  const advice = running.includes(first)
    ? `put what runs to sleep before, as with 'hob sleep ${first.name}'`
    : `wait until ${first.name} is ${creating.includes(first) ? "made" : "in the object store, for which it is woken"}`;
  throw new HobError("conflict", `gc with a grace of ${graceMs / 1_000} s: ${of} may be uploading, and what is uploaded would be removed`, {
    hint: `${advice}, or give 2h or more`,
  });
}

/** Their VMs are saved in the middle of it, and go on with it: what they have brought is then named without a further look. */
async function asleepWhileUploading(ready: readonly SpriteRecord[], runtime: SpriteContext["runtime"]): Promise<SpriteRecord[]> {
  const warm = ready.filter(({ id }) => runtime.status(id) === "warm");
  const rests = await Promise.all(warm.map(({ id }) => runtime.rest(id)));
  return warm.filter((_, index) => rests[index]?.behind !== undefined);
}
