import { HobError } from "@hob/protocol";
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
  const running = (await sprites.listByState("ready")).filter(({ id }) => runtime.status(id) === "running");
  // An import has no VM before all of it is in the store.
  const [first, ...others] = [...running, ...(await sprites.listByState("creating"))];
  if (first === undefined) return;
  const of = others.length === 0 ? first.name : `${first.name} and ${others.length} more`;
  const advice =
    first.state === "creating" ? `wait until ${first.name} is made` : `put what runs to sleep before, as with 'hob sleep ${first.name}'`;
  throw new HobError("conflict", `gc with a grace of ${graceMs / 1_000} s: ${of} may be uploading, and what is uploaded would be removed`, {
    hint: `${advice}, or give 2h or more`,
  });
}
