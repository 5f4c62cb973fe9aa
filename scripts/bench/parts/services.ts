import type { Part } from "../part.ts";
import { Series } from "../stats.ts";
import { BenchDaemon } from "../subjects/daemon.ts";
import { timeMs } from "../subjects/machine.ts";

const AT = "/v1/sprites/services/services";

/** How long a service is away when it is restarted: by its user, and when it ends by itself. */
export const servicesPart: Part = {
  name: "services",
  title: "restart of a service",
  boundMinutes: { quick: 3, full: 6 },
  async run(context) {
    const n = context.quick ? 5 : 50;
    const daemon = await BenchDaemon.start(context);
    const sprite = await daemon.create("services");
    const pidOf = async () => (await daemon.request<{ state?: { pid?: number } }>("GET", `${AT}/sleeper`)).state?.pid;
    await (await sprite.createService("sleeper", { cmd: "sleep", args: ["infinity"] }, "0s")).processAll(() => {});
    const [restart, exec] = [new Series(), new Series()];
    context.progress(`${n} restarts`);
    for (let round = -1; round < n; round++) {
      const before = await pidOf();
      const restartMs = await timeMs(async () => {
        await (await sprite.restartService("sleeper", "0s")).processAll(() => {});
      });
      const after = await pidOf();
      if (before === undefined || after === undefined || after === before)
        throw new Error(`restart of process ${before} left process ${after}`);
      const execMs = await timeMs(() => sprite.execFile("true"));
      if (round < 0) continue;
      restart.add(restartMs);
      exec.add(execMs);
    }
    const beside = { what: "exec true over the API", value: exec.p50 };
    return [
      { what: "service, restart, p50", value: restart.p50, unit: "ms", n, beside },
      { what: "service, restart, p90", value: restart.percentile(90), unit: "ms", n },
    ];
  },
};
