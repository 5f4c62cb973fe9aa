import type { Check } from "./check.ts";

const NODE_MAJOR = 24;

/** The Node.js that runs Hob. Older ones cannot run TypeScript as it is. */
export const checkNode: Check = async () => {
  const { node } = process.versions;
  const isNewEnough = Number(node.split(".")[0]) >= NODE_MAJOR;
  if (isNewEnough) return [{ check: "node", level: "ok", found: `version ${node}` }];
  return [{ check: "node", level: "fail", found: `version ${node}`, advice: `'npm install' brings Node.js ${NODE_MAJOR} with it` }];
};
