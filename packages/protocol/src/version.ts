/** Version of Hob, as `hob version` prints it. */
export const HOB_VERSION = "0.1.0";

/** Value of the `Sprite-Version` response header; the Go SDK derives from it how to attach to a session. */
export const SPRITE_VERSION = "v0.0.1-rc48";

/**
 * Version of the private protocol between `hobd` and the pilot (`pilot.ts`).
 * hobd of version N talks to pilots of version N and N-1.
 *
 * 1: ready, resumed, prepare-save, shutdown, bounce.
 * 2: activity, prepare-sleep.
 */
export const PILOT_PROTOCOL_VERSION = 2;
