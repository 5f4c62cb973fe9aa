import { HobError } from "@hob/protocol";

/** The error of everything that is not what the format says. `key` is the object, `what` completes "KEY …". */
export const damaged = (key: string, what: string, cause?: unknown): HobError =>
  new HobError("data_damaged", `${key} ${what}`, {
    hint: "run `hob fsck`; it names what is damaged, and repairs it from the local copy where there is one",
    details: { object: key },
    ...(cause === undefined ? {} : { cause }),
  });
