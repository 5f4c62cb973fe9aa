/**
 * The id range of the inner container, user_namespaces(7): its root is FIRST_ID here. The range is wide (2^24 ids),
 * so that users inside can have subordinate ids of their own and run rootless containers.
 */
export const ID_MAP = { firstId: 1_000_000, count: 16_777_216 } as const;

/** The user whom sessions run as, and the shell of a session that names no command. */
export const SPRITE_USER = { name: "sprite", uid: 1000, gid: 1000, home: "/home/sprite", shell: "/bin/bash" } as const;
