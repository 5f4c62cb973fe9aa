import { identity, storageAssignment } from "@hob/protocol";
import { z } from "zod";

/**
 * What the launcher tells the pilot before it runs: written by hobd to the boot configuration disk, read once.
 * It holds a secret, so it never goes on the kernel's command line, which everybody in the sprite can read.
 */
export const bootConfig = z.object({
  /** the pilot's port accepts requests with this token only, until `resumed` brings another */
  pilotToken: z.string().min(32),
  /** absent in a template: a clone gets its identity with `resumed` */
  identity: identity.optional(),
  network: z.object({
    device: z.string(),
    address: z.string(),
    prefixLength: z.number().int(),
    gateway: z.string(),
    /** resolvers outside the sprite */
    dns: z.array(z.string()),
    mtu: z.number().int(),
  }),
  /** the sprite's place in the object store, as with `resumed`: a volume may read from there from the beginning */
  storage: storageAssignment.optional(),
  listen: z.object({ host: z.string(), port: z.number().int() }),
});
export type BootConfig = z.infer<typeof bootConfig>;

/** Fixed places in the root namespace. All but the volume and the state are on a tmpfs. */
export const PATHS = {
  runtime: "/run/hob",
  helperSocket: "/run/hob/helper.sock",
  /** names of requests that were taken */
  seenRequests: "/run/hob/seen-requests",
  bundle: "/run/hob/bundle",
  // The runtime folder is closed to all but root; these are entered by the container's mapped ids.
  rootfs: "/run/rootfs",
  machineId: "/run/machine-id",
  policyMirror: "/run/sprite-policy",
  crunState: "/run/crun",
  volume: "/volume",
  /** where another volume is put together before it takes the place of the one in use; and folders where those go then */
  staged: { volume: "/run/hob/staged", rootfs: "/run/staged-rootfs" },
  previous: { volume: "/run/hob/previous", rootfs: "/run/previous-rootfs" },
  /** roots of the newest checkpoints, seen in the sprite as /.sprite/checkpoints; and the file systems that they lie on */
  checkpoints: "/run/checkpoints",
  checkpointVolumes: "/run/hob/checkpoints",
  /** kept with the volume, in checkpoints too, and not visible in the sprite: definitions of services */
  platform: "/volume/platform",
  /** kept on this machine only, and not visible in the sprite: journals of sessions, logs of services. A file system of its own */
  state: "/run/state",
  // In a folder of its own that the container's mapped ids enter.
  apiSocket: "/run/sprite-api/api.sock",
  diskMeter: { program: "/pilot/hob-disk-meter", file: "/run/state/disk-meter" },
  layers: { base: "/layers/base", platform: "/layers/platform", languages: "/layers/languages" },
} as const;

/** Addresses of the veth pair between the root namespace and the inner container. */
export const SPRITE_NETWORK = {
  outerName: "spr0h",
  innerName: "spr0",
  mtu: 1500,
  outer: { ipv4: "10.0.0.2/24", ipv6: "fdf::2/64" },
  inner: { ipv4: "10.0.0.1/24", ipv6: "fdf::1/64" },
  ipv4Range: "10.0.0.0/24",
  ipv6Range: "fdf::/64",
  outerIpv4: "10.0.0.2",
  outerIpv6: "fdf::2",
} as const;
