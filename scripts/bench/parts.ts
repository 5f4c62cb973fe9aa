import type { Part } from "./part.ts";
import { amplificationPart } from "./parts/amplification.ts";
import { bouncePart } from "./parts/bounce.ts";
import { checkpointsPart } from "./parts/checkpoints.ts";
import { chunksPart } from "./parts/chunks.ts";
import { coldStartPart } from "./parts/cold-start.ts";
import { createPart } from "./parts/create.ts";
import { diskPart } from "./parts/disk.ts";
import { execPart } from "./parts/exec.ts";
import { filesPart } from "./parts/files.ts";
import { lifecyclePart } from "./parts/lifecycle.ts";
import { servicesPart } from "./parts/services.ts";
import { sleepingPart } from "./parts/sleeping.ts";
import { urlPart } from "./parts/url.ts";

/** In the order in which they are run and reported. */
export const PARTS: readonly Part[] = [
  createPart,
  execPart,
  bouncePart,
  filesPart,
  servicesPart,
  urlPart,
  lifecyclePart,
  sleepingPart,
  checkpointsPart,
  coldStartPart,
  diskPart,
  amplificationPart,
  chunksPart,
];
