import type { Target } from "./target.ts";
import { clientTargets } from "./targets/clients.ts";
import { daemonTargets } from "./targets/daemon.ts";
import { diskTargets } from "./targets/disk.ts";
import { documentTargets } from "./targets/documents.ts";
import { helperAnswers } from "./targets/helper-answers.ts";
import { helperRequests } from "./targets/helper-requests.ts";
import { networkTargets } from "./targets/network.ts";
import { pilotTargets } from "./targets/pilot.ts";
import { relayTargets } from "./targets/relay.ts";
import { requestTargets } from "./targets/requests.ts";
import { spriteEnv } from "./targets/sprite-env.ts";
import { storageTargets } from "./targets/storage.ts";

/** All parsers of bytes from outside. */
export const TARGETS: readonly Target[] = [
  ...requestTargets,
  ...documentTargets,
  ...networkTargets,
  ...storageTargets,
  ...diskTargets,
  ...clientTargets,
  ...relayTargets,
  ...daemonTargets,
  helperAnswers,
  helperRequests,
  spriteEnv,
  ...pilotTargets,
];
