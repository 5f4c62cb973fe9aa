import type { Check, Finding } from "./check.ts";

const ANSWER_TIMEOUT_MS = 2_000;

const PROBLEMS: Readonly<Record<string, Pick<Finding, "found" | "advice">>> = {
  unavailable: {
    found: "the object store does not answer the daemon",
    advice: "see whether its server runs and is reached, or its disk is mounted; hobd.log has the reason, and the daemon goes on by itself",
  },
  refused: {
    found: "the object store refuses what the daemon needs",
    advice: "hobd.log says what: credentials, permissions, or conditional writes that it lacks",
  },
};

/** The object store, as the daemon of this home finds it; without a daemon there is nothing to be said. */
export const checkStore: Check = async ({ daemonUrl }) => {
  const health = daemonUrl === undefined ? undefined : await healthOf(daemonUrl);
  if (health === undefined) return [];
  if (health === "ok") return [{ check: "store", level: "ok", found: "the object store answers the daemon" }];
  const problem = PROBLEMS[health] ?? { found: `the object store is said to be ${health}` };
  return [{ check: "store", level: "fail", ...problem }];
};

/** undefined: the daemon does not answer, or is of a version that does not say */
async function healthOf(url: string): Promise<string | undefined> {
  try {
    const answer = await fetch(new URL("/healthz", url), { signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) });
    const { store } = (await answer.json()) as { store?: unknown };
    return typeof store === "string" ? store : undefined;
  } catch {
    return undefined;
  }
}
